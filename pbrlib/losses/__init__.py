"""Loss terms by family, and the recipe that sums them.

Each term has a pure function and a :class:`~pbrlib.losses.base.Term` that averages its result, both in the
file of its family. `lossspec.py` declares the terms without importing torch, so that a curriculum is read
quickly; `termmodules.py` maps each declaration to its term.
"""

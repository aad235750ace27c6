"""Loss terms by family, and the recipe that sums them.

A family file holds for each of its terms the pure function and the :class:`~pbrlib.losses.base.Term` that
averages it. `lossspec.py` declares the terms and imports no torch, so that reading a curriculum is quick;
`termmodules.py` says which module computes each.
"""

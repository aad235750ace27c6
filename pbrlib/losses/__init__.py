"""Loss terms by family, and the recipe that sums them.

A family file holds for each of its terms the pure function, the :class:`~pbrlib.losses.base.Term` that
averages it, and the :class:`~pbrlib.losses.termspec.TermSpec` that declares it. A field of
:class:`~pbrlib.losses.lossspec.LossSpec` makes the term part of a curriculum.
"""

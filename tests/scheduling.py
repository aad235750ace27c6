"""How several processes share the tests: one has all that starts Ray, on one cluster; a file stays whole."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

RAY = "ray"
"""The group of the tests that start Ray; ``--dist loadgroup`` writes it behind their names."""


class OneRay(LoadScopeScheduling):
    """A file at a time, so that its fixtures are made once; the tests of Ray together, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return RAY if nodeid.endswith(f"@{RAY}") else nodeid.partition("::")[0]

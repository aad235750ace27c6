"""Scheduler of pytest-xdist: all tests that start Ray run in one process, other tests by file."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

RAY = "ray"
"""The group of the tests that start Ray; ``--dist loadgroup`` appends it to their names."""


class OneRay(LoadScopeScheduling):
    """Schedules complete files, so that fixtures are made once, and all tests of Ray in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return RAY if nodeid.endswith(f"@{RAY}") else nodeid.partition("::")[0]

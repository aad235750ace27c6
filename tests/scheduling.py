"""How several processes share the tests: one has all that starts Ray, on one cluster; a file stays whole."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

RAY_FOLDERS = ("tests/ray/", "tests/faults/")


def starts_ray(nodeid: str) -> bool:
    """Whether a test lies where those are that start Ray."""
    return nodeid.startswith(RAY_FOLDERS)


class OneRay(LoadScopeScheduling):
    """A file at a time, so that its fixtures are made once; the files of Ray together, in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return "ray" if starts_ray(nodeid) else nodeid.partition("::")[0]

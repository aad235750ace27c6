"""Keeps a command, and every process that it starts, from importing files of the current folder.

Imports `os` and `sys` alone, which Python has loaded before it looks into any folder.
"""

import os
import sys

SAFE_PATH = "PYTHONSAFEPATH"
"""With it, Python puts neither the current folder nor a script's folder on the module search path."""

CODE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120  # pathlib imports ten modules
"""The folder that this package lies in: ``site-packages``, or a checkout."""


def leave_current_folder() -> None:
    """Take the current folder off the module search path of this process and of its children.

    ``python -m`` puts it there, as does an empty part of ``PYTHONPATH`` (``:/opt/lib``). Relative parts of
    ``PYTHONPATH`` go as well. A checkout stays importable from itself.
    """
    os.environ[SAFE_PATH] = "1"
    given = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    named = [part for part in given if not os.path.isabs(part)]  # noqa: PTH117
    left = {_absolute(part) for part in ("", *named)} - {CODE}
    sys.path[:] = [part for part in sys.path if _absolute(part) not in left]
    if "PYTHONPATH" in os.environ:
        os.environ["PYTHONPATH"] = os.pathsep.join(
            _absolute(part) for part in given if _absolute(part) not in left
        )


def _absolute(part: str) -> str:
    try:
        return os.path.realpath(part)
    except OSError:  # the current folder is gone, so nothing can be imported from it
        return part

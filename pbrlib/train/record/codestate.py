"""What code trained and which command began it: commit, difference from it, command line; no secret."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pbrlib import storage

COMMAND, DIFF = "command.json", "code.diff"
MOST_DIFF_BYTES = 256 * 1024
"""Of the difference that is kept; its hash is that of the whole."""
TIMEOUT_S = 5.0

PACKAGE = Path(__file__).resolve().parents[2]
"""The folder of pbrlib: a checkout's, or one in site-packages."""

_USERINFO = re.compile(r"//[^/@\s\"']*@")
_NAMED = re.compile(r"(?i)((?:key|secret|token|password|credential)[\w-]*\\?[\"']?\s*[=:]\s*)[^\s,}]+")
_OPTION = re.compile(r"(?i)^--[\w-]*(?:key|secret|token|password|credential)[\w-]*$")
_CODE = ("*.py", "../ray_jobs/*.py")
"""What is compared, from the package on: code alone, neither data nor settings."""


def redact(text: str) -> str:
    """Return a text without credentials in addresses and without values that have the name of a secret."""
    return _NAMED.sub(r"\1***", _USERINFO.sub("//***@", text))


def note_command(directory: Path, arguments: Sequence[str] | None = None) -> None:
    """Write the command line of this process beside a phase, where it is a command of the product."""
    given = list(sys.argv if arguments is None else arguments)
    if not given or Path(given[0]).name not in ("pbr", "__main__.py"):
        return  # a worker of Ray, whose arguments are Ray's
    words = ["pbr", *given[1:]]
    shown = [
        "***" if number and _OPTION.match(words[number - 1]) else redact(word)
        for number, word in enumerate(words)
    ]
    storage.write_atomic(directory / COMMAND, json.dumps({"command": shown}))


def note_code(directory: Path, *, package: Path = PACKAGE) -> dict[str, Any]:
    """Return commit and difference of the code that runs here; the difference goes to ``code.diff``.

    Empty for an installed package, without git, and where git does not answer in time.
    """
    head, diff = _git(package, "rev-parse", "HEAD"), None
    # A repository around an environment's site-packages is that of something else.
    if head is not None and _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None:
        diff = _git(package, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD", "--", *_CODE)
    if head is None or diff is None:
        return {}
    known: dict[str, Any] = {"commit": head.decode().strip(), "changed": bool(diff)}
    if diff:
        kept = redact(diff[:MOST_DIFF_BYTES].decode(errors="replace"))
        storage.write_atomic(directory / DIFF, kept)
        known |= {"diff_sha256": hashlib.sha256(diff).hexdigest(), "diff": DIFF}
    return known


def _git(package: Path, *arguments: str) -> bytes | None:
    """Return what git says in the folder of the package; None where it says nothing or fails.

    Neither a program of the current folder nor one that the repository's settings name is started.
    """
    places = [part for part in os.environ.get("PATH", "").split(os.pathsep) if Path(part).is_absolute()]
    program = shutil.which("git", path=os.pathsep.join(places)) if places else None
    if program is None:
        return None
    fixed = ["-c", "core.fsmonitor=false", "-c", "core.pager=cat", "--no-optional-locks"]
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    try:
        done = subprocess.run(  # noqa: S603  # an absolute path and words of this file
            [program, *fixed, *arguments],
            cwd=package,
            env={**kept, "PATH": os.pathsep.join(places), "GIT_TERMINAL_PROMPT": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout

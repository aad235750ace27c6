"""Records the code and command of a phase: commit, uncommitted changes and command line, without secrets."""

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
MAX_DIFF_BYTES = 256 * 1024
"""Maximum size of the stored diff; its hash covers the complete diff."""
TIMEOUT_S = 5.0

PACKAGE = Path(__file__).resolve().parents[2]
"""The folder of pbrlib, in a checkout or in site-packages."""

_USERINFO = re.compile(r"//[^/@\s\"']*@")
_SECRET_VALUE = re.compile(r"(?i)((?:key|secret|token|password|credential)[\w-]*\\?[\"']?\s*[=:]\s*)[^\s,}]+")
_SECRET_OPTION = re.compile(r"(?i)^--[\w-]*(?:key|secret|token|password|credential)[\w-]*$")
_COMPARED_FILES = ("*.py", "../ray_jobs/*.py")
"""Files that are compared with the commit, relative to the package: code, but no data or settings."""


def redact(text: str) -> str:
    """Return a text with *** in place of credentials in URLs and of values whose name is that of a secret."""
    return _SECRET_VALUE.sub(r"\1***", _USERINFO.sub("//***@", text))


def note_command(directory: Path, arguments: Sequence[str] | None = None) -> None:
    """Write the command line to the folder of a phase if this process runs a pbr command."""
    given = list(sys.argv if arguments is None else arguments)
    if not given or Path(given[0]).name not in ("pbr", "__main__.py"):
        return  # a Ray worker, whose arguments come from Ray
    words = ["pbr", *given[1:]]
    shown = [
        "***" if number and _SECRET_OPTION.match(words[number - 1]) else redact(word)
        for number, word in enumerate(words)
    ]
    storage.write_atomic(directory / COMMAND, json.dumps({"command": shown}))


def note_code(directory: Path, *, package: Path = PACKAGE) -> dict[str, Any]:
    """Return the commit of the running code, and write uncommitted changes to ``code.diff``.

    The result is empty for an installed package, without git, and if git does not answer in time.
    """
    head, diff = _git(package, "rev-parse", "HEAD"), None
    # A repository that contains site-packages belongs to another project, so the package must be tracked.
    if head is not None and _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None:
        diff = _git(
            package, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD", "--", *_COMPARED_FILES
        )
    if head is None or diff is None:
        return {}
    known: dict[str, Any] = {"commit": head.decode().strip(), "changed": bool(diff)}
    if diff:
        kept = redact(diff[:MAX_DIFF_BYTES].decode(errors="replace"))
        storage.write_atomic(directory / DIFF, kept)
        known |= {"diff_sha256": hashlib.sha256(diff).hexdigest(), "diff": DIFF}
    return known


def _git(package: Path, *arguments: str) -> bytes | None:
    """Return the output of git in the folder of the package; None if git fails.

    For security, no program of the current folder and none from the repository's settings is started.
    """
    places = [part for part in os.environ.get("PATH", "").split(os.pathsep) if Path(part).is_absolute()]
    program = shutil.which("git", path=os.pathsep.join(places)) if places else None
    if program is None:
        return None
    fixed = ["-c", "core.fsmonitor=false", "-c", "core.pager=cat", "--no-optional-locks"]
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    try:
        done = subprocess.run(  # noqa: S603  # an absolute path and constant arguments
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

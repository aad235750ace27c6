"""The check of material ids: every command lists a source through `admitted`, since ids become paths."""

from __future__ import annotations

import unicodedata

from pbrlib.data.materials.audit import Finding
from pbrlib.data.materials.material import Entry, Source
from pbrlib.errors import printable

MOST_BYTES_OF_A_NAME = 200
"""Of the 255 that a file system takes: files of a material add an ending, and a mark while half written."""
MOST_BYTES = 800

_SHOWN = 80
_OF_WINDOWS = '\\:<>"|?*'
"""Characters that no file of Windows, on which converted textures are used, may have in its name."""
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's control and format characters (of them those that turn the direction of a text), lone surrogates
as Python makes them of bytes that are no text, and ends of lines."""


def admitted(source: Source) -> list[Entry]:
    """The materials of a source whose ids are safe as relative paths; raises as ``source.entries``."""
    return [entry for entry in source.entries() if id_problem(entry.id) is None]


def refused(source: Source) -> list[Finding]:
    """An error on every material of a source that `admitted` leaves out; raises as ``source.entries``."""
    findings = []
    for entry in source.entries():
        if problem := id_problem(entry.id):
            name = printable(entry.id).replace("\n", "\\n").replace("\t", "\\t")
            shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
            message = f"{source.name}: got the id '{shown}', {problem}. Rename the material; it is left out."
            findings.append(Finding(shown, "", "id", "error", message))
    return findings


def id_problem(name: str) -> str | None:
    """Say why an id, or another path from a file, cannot be a path below a folder of ours; None if it can.

    It is one or several names joined by ``/``. What compatibility characters stand for counts too: a file
    system may write a full-width solidus as ``/``.
    """
    if any(unicodedata.category(char) in _INVISIBLE for char in name):
        return "with control or invisible characters; expected letters that can be seen"
    if len(name.encode()) > MOST_BYTES:
        return f"of {len(name.encode())} bytes; expected at most {MOST_BYTES}"
    for form in (name, unicodedata.normalize("NFKC", name)):
        problems = (_problem_of_part(part) for part in form.split("/"))
        if problem := next(filter(None, problems), None):
            return problem
    return None


def _problem_of_part(part: str) -> str | None:
    if part in ("", ".", ".."):
        return "which leads out of its folder or to none; expected names joined by single slashes"
    if found := [char for char in _OF_WINDOWS if char in part]:
        return f"with {found[0]}; expected none of {' '.join(_OF_WINDOWS)}"
    if part != part.strip(" ") or part.endswith("."):
        return "with a dot or space at the end of a name, or a space before it; expected none"
    if part.partition(".")[0].rstrip(" ").lower() in _DEVICES:
        return f"in which {part} is the name of a device; expected another"
    if len(part.encode()) > MOST_BYTES_OF_A_NAME:
        return f"with a name of {len(part.encode())} bytes; expected at most {MOST_BYTES_OF_A_NAME}"
    return None

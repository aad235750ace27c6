"""Checks the ids of materials, since ids become paths; every command lists sources with `valid_entries`."""

from __future__ import annotations

import unicodedata

from pbrlib.data.materials.audit import Finding
from pbrlib.data.materials.material import Entry, Source
from pbrlib.errors import printable

MAX_NAME_BYTES = 200
"""A file system allows 255 bytes; files of a material add an ending, and a prefix while they are written."""
MAX_ID_BYTES = 800

_SHOWN = 80
_WINDOWS_RESERVED = '\\:<>"|?*'
"""Characters that Windows, on which converted textures are used, does not allow in names of files."""
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode categories of control and format characters, surrogates and line ends.

Format characters can reverse the direction of a text; Python decodes bytes that are no text to surrogates.
"""


def valid_entries(source: Source) -> list[Entry]:
    """Return the entries of a source whose ids are safe as relative paths; raises as ``source.entries``."""
    return [entry for entry in source.entries() if id_problem(entry.id) is None]


def invalid_ids(source: Source) -> list[Finding]:
    """Return an error on every material that `valid_entries` leaves out; raises as ``source.entries``."""
    findings = []
    for entry in source.entries():
        if problem := id_problem(entry.id):
            name = printable(entry.id).replace("\n", "\\n").replace("\t", "\\t")
            shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
            message = f"{source.name}: got the id '{shown}', {problem}. Rename the material; it is left out."
            findings.append(Finding(shown, "", "id", "error", message))
    return findings


def id_problem(name: str) -> str | None:
    """Return why an id, or another path from a file, is not safe as a relative path, or None if it is safe.

    An id consists of names joined by ``/``. Compatibility characters are also checked in their normalised
    form, since a file system may write a full-width solidus as ``/``.
    """
    if any(unicodedata.category(char) in _INVISIBLE for char in name):
        return "with control or invisible characters; expected visible characters"
    if len(name.encode()) > MAX_ID_BYTES:
        return f"of {len(name.encode())} bytes; expected at most {MAX_ID_BYTES}"
    for form in (name, unicodedata.normalize("NFKC", name)):
        problems = (_problem_of_part(part) for part in form.split("/"))
        if problem := next(filter(None, problems), None):
            return problem
    return None


def _problem_of_part(part: str) -> str | None:
    if part in ("", ".", ".."):
        return "which is a path outside of its folder; expected names joined by single slashes"
    if found := [char for char in _WINDOWS_RESERVED if char in part]:
        return f"with {found[0]}; expected none of {' '.join(_WINDOWS_RESERVED)}"
    if part != part.strip(" ") or part.endswith("."):
        return "with a dot or space at the end of a name, or a space before it; expected none"
    if part.partition(".")[0].rstrip(" ").lower() in _DEVICES:
        return f"with {part}, the name of a device; expected another name"
    if len(part.encode()) > MAX_NAME_BYTES:
        return f"with a name of {len(part.encode())} bytes; expected at most {MAX_NAME_BYTES}"
    return None

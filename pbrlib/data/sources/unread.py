"""Describes files of a folder of materials that cannot be read, with remedies."""

from __future__ import annotations

from pathlib import PurePath

_AS_PNG = "Save it as PNG"
_16_BITS = f"{_AS_PNG} with 16 bits"
_ARCHIVE = "an archive. Unpack it, and give the unpacked folder"

PICTURES = {
    ".exr": f"an OpenEXR picture. {_16_BITS}, for example with `oiiotool IN.exr -d uint16 -o OUT.png`",
    **dict.fromkeys((".hdr", ".pfm"), f"a picture of floating point numbers. {_16_BITS}"),
    **dict.fromkeys((".psd", ".psb", ".xcf", ".kra", ".clip"), f"a project of an editor. {_AS_PNG}"),
    **dict.fromkeys((".sbsar", ".sbs"), "a Substance material. Export its maps as PNG"),
    **dict.fromkeys((".ktx", ".ktx2", ".basis", ".vtf", ".tx"), f"a texture of a renderer. {_AS_PNG}"),
    **dict.fromkeys((".avif", ".heic", ".heif", ".jxl"), f"a picture of another format. {_AS_PNG}"),
    **dict.fromkeys((".jp2", ".gif", ".svg", ".ppm", ".pcx"), f"a picture of another format. {_AS_PNG}"),
}
"""Suffixes of pictures that cannot be read, with descriptions and remedies."""

ARCHIVES = {
    **dict.fromkeys((".bsa", ".ba2"), f"{_ARCHIVE}; use BSA Browser"),
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"), _ARCHIVE),
}
"""Suffixes of archives, with remedies."""


def explain_unread(path: PurePath) -> str | None:
    """Return the description and remedy of an unread picture or archive, or None for other files."""
    suffix = path.suffix.lower()
    return PICTURES.get(suffix) or ARCHIVES.get(suffix)

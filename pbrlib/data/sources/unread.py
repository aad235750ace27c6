"""Files of a folder of materials that no reader here opens: what they are, and what to do."""

from __future__ import annotations

from pathlib import PurePath

_AS_PNG = "Save it as PNG"
_16_BITS = f"{_AS_PNG} with 16 bits"
_ARCHIVE = "an archive. Unpack it, and give the folder that comes of it"

PICTURES = {
    ".exr": f"an OpenEXR picture. {_16_BITS}, such as with `oiiotool IN.exr -d uint16 -o OUT.png`",
    **dict.fromkeys((".hdr", ".pfm"), f"a picture of floating point numbers. {_16_BITS}"),
    **dict.fromkeys((".psd", ".psb", ".xcf", ".kra", ".clip"), f"a project of an editor. {_AS_PNG}"),
    **dict.fromkeys((".sbsar", ".sbs"), "a Substance material. Export its maps as PNG"),
    **dict.fromkeys((".ktx", ".ktx2", ".basis", ".vtf", ".tx"), f"a texture of a renderer. {_AS_PNG}"),
    **dict.fromkeys((".avif", ".heic", ".heif", ".jxl"), f"a picture of another format. {_AS_PNG}"),
    **dict.fromkeys((".jp2", ".gif", ".svg", ".ppm", ".pcx"), f"a picture of another format. {_AS_PNG}"),
}
"""Suffixes of pictures: what they are, and what to do."""

ARCHIVES = {
    **dict.fromkeys((".bsa", ".ba2"), f"{_ARCHIVE}; BSA Browser does"),
    **dict.fromkeys((".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst"), _ARCHIVE),
}
"""Suffixes of archives, and what to do."""


def explain_unread(path: PurePath) -> str | None:
    """Return what a picture or an archive is that is not read, and what to do; None for anything else."""
    suffix = path.suffix.lower()
    return PICTURES.get(suffix) or ARCHIVES.get(suffix)

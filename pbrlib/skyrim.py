"""How Skyrim's textures are called: which ending or folder holds what."""

from __future__ import annotations

DIFFUSE_SUFFIXES = ("", "_d", "_diff", "_diffuse")
"""Endings of a diffuse, the one that is taken first at the front."""

NORMAL_SUFFIXES = ("_n", "_norm", "_normal")
"""Endings of a tangent-space normal."""

GLOW_SUFFIX = "_g"
"""Ending of the map that says where a material shines by itself."""

OTHER_SUFFIXES = {
    "_msn": "a model-space normal",
    "_sk": "a skin tint",
    "_e": "an environment map",
    "_m": "an environment mask",
    "_em": "an environment mask",
    "_envmask": "an environment mask",
    "_f": "a fuzz map",
    "_i": "an inner layer",
    "_s": "a subsurface or specular map",
    "_b": "a backlight map",
    "_bl": "a backlight map",
    "_flow": "a flow map",
    "_cnr": "a coat normal",
    GLOW_SUFFIX: "a glow map",
    "_p": "a height map",
    "_rmaos": "a True PBR map",
    "_mask": "a class mask",
}
"""Endings of maps that are neither diffuse nor tangent-space normal, and what they are.

A texture with a normal of its own is a diffuse whatever it ends in: ``robe_f`` beside ``robe_f_n``.
"""

OTHER_FOLDERS = {
    "interface": "UI",
    "sky": "sky",
    "effects": "effects",
    "lod": "LOD",
    "dyndolod": "LOD",
    "terrain": "LOD",
    "facegendata": "faces",
    "facegen": "faces",
    "facetint": "faces",
    "facetints": "faces",
    "tintmasks": "faces",
    "cubemaps": "cube maps",
}
"""Folders, at any depth, whose textures are no materials, and what they hold."""

TOP_FOLDERS = {"ui": "UI"}
"""The same for folders directly below ``textures``, whose names are elsewhere those of materials."""

PBR_FOLDER = "pbr"
"""The folder, at any depth, of True PBR sets."""

ARCHIVES = (".bsa", ".ba2", ".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".xz", ".zst", ".omod", ".fomod")
"""Endings of archives that textures are shipped in; none is read."""

OTHER_PICTURES = (
    *(".tif", ".tiff", ".gif", ".avif", ".heic", ".jxl", ".jp2"),
    *(".psd", ".xcf", ".kra", ".exr", ".hdr", ".ktx", ".ktx2", ".vtf", ".ddx"),
)
"""Endings of pictures that neither the game nor this product reads as a texture."""

DATA_FILES = (".esm", ".esp", ".esl", ".bsa", ".ba2")
"""Endings of the files that lie beside ``textures`` in a folder that the game loads."""

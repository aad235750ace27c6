"""Naming conventions of Skyrim's textures: the map of each file ending, and the content of each folder."""

from __future__ import annotations

DIFFUSE_SUFFIXES = ("", "_d", "_diff", "_diffuse")
"""Name endings of diffuse files, in the order of preference."""

NORMAL_SUFFIXES = ("_n", "_norm", "_normal")
"""Name endings of tangent-space normal maps."""

GLOW_SUFFIX = "_g"
"""Name ending of a glow map, which marks the pixels that emit light."""

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
"""Name endings of other maps, with descriptions of the maps.

A texture that has its own normal map is a diffuse, whatever its ending: ``robe_f`` if ``robe_f_n`` exists.
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
"""Folders, at any depth, whose textures are not materials, with a description of their content."""

TOP_FOLDERS = {"ui": "UI"}
"""Such folders directly below ``textures`` only; deeper folders of these names contain materials."""

PBR_FOLDER = "pbr"
"""The name of folders, at any depth, of True PBR sets."""

ARCHIVES = (".bsa", ".ba2", ".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".xz", ".zst", ".omod", ".fomod")
"""File suffixes of archives that textures are shipped in; archives are not read."""

OTHER_PICTURES = (
    *(".tif", ".tiff", ".gif", ".avif", ".heic", ".jxl", ".jp2"),
    *(".psd", ".xcf", ".kra", ".exr", ".hdr", ".ktx", ".ktx2", ".vtf", ".ddx"),
)
"""File suffixes of pictures that neither the game nor this product reads as textures."""

DATA_FILES = (".esm", ".esp", ".esl", ".bsa", ".ba2")
"""File suffixes of game data; in a folder that the game loads, these files are next to ``textures``."""

"""How Skyrim's textures are called: which ending or folder holds what."""

from __future__ import annotations

DIFFUSE_SUFFIXES = ("", "_d", "_diff", "_diffuse")
"""Endings of a diffuse, the one that is taken first at the front."""

NORMAL_SUFFIXES = ("_n", "_norm", "_normal")
"""Endings of a tangent-space normal."""

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
    "_g": "a glow map",
    "_p": "a height map",
    "_rmaos": "a True PBR map",
    "_mask": "a class mask",
}
"""Endings of maps that are neither diffuse nor tangent-space normal, and what they are."""

OTHER_FOLDERS = {
    "interface": "UI",
    "ui": "UI",
    "sky": "sky",
    "effects": "effects",
    "lod": "LOD",
    "dyndolod": "LOD",
    "terrain": "LOD",
    "facegendata": "faces",
    "facegen": "faces",
    "facetint": "faces",
    "facetints": "faces",
    "cubemaps": "cube maps",
    "pbr": "True PBR already",
}
"""Folders, at any depth, whose textures are no materials, and what they hold."""

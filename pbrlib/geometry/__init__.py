"""Geometry of normal and height maps: orientation, slopes, Poisson height, curvature, occlusion, warps.

A normal is a unit vector in OpenGL convention (x right, y up, z out of the surface), and image rows point
down. A height ``h`` therefore has the normal ``(-dh/dcol, +dh/drow, 1)``, normalised.
"""

from pbrlib.geometry.normals import (
    Verdict,
    green_channel_verdict,
    mean_curvature,
    normal_from_height,
    relief_scale,
    slopes,
)
from pbrlib.geometry.occlusion import ao_from_height
from pbrlib.geometry.orientation import Orientation, flip_green, flip_horizontal, flip_vertical, rotate90
from pbrlib.geometry.poisson import poisson_height, relief
from pbrlib.geometry.warp import smooth_displacement, warp, warp_labels, warp_normal

__all__ = [
    "Orientation",
    "Verdict",
    "ao_from_height",
    "flip_green",
    "flip_horizontal",
    "flip_vertical",
    "green_channel_verdict",
    "mean_curvature",
    "normal_from_height",
    "poisson_height",
    "relief",
    "relief_scale",
    "rotate90",
    "slopes",
    "smooth_displacement",
    "warp",
    "warp_labels",
    "warp_normal",
]

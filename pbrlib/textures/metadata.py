"""Applies the metadata of PNG, JPEG and WebP files: orientation and colour space."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from pbrlib.colour import linear_to_srgb

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform

Use: TypeAlias = Literal["colour", "normal", "data"]
"""The purpose of pixels: only colours are converted to sRGB; normals and other data are kept as stored."""

_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""Pillow's transposition that turns each EXIF orientation upright; orientation 1 is upright already."""

_SRGB_GAMMA = (0.44, 0.465)
"""Values of gAMA that mean sRGB: most writers store 0.45455 (1 / 2.2), some 0.45."""

_PLAUSIBLE_GAMMAS = (0.2, 2.0)
"""Range of valid exponents; 1 is linear light, 0.55 that of old Macintosh files."""

_CICP_SRGB, _CICP_LINEAR = (1, 13), (1, 8)
"""Codes of primaries and transfer function (ITU-T H.273) of sRGB, and of linear light with sRGB primaries."""

_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_CHROMATICITY_TOLERANCE = 0.01
"""Tolerance for ``_SRGB_PRIMARIES``: x and y of white, red, green and blue in cHRM, which writers round."""

_MAX_SRGB_DIFFERENCE = 3
"""Maximum difference from sRGB, of 255, of a profile that counts as sRGB."""


def apply_metadata(picture: Image, *, use: Use) -> tuple[Image, tuple[str, ...]]:
    """Load a picture, turn it upright (EXIF) and convert colours to sRGB (cICP, ICC profile, gAMA).

    Colours are converted only if ``use`` is "colour". An sRGB chunk takes precedence over gAMA, as in the PNG
    specification. Metadata that cannot be applied is ignored, with a note.

    Args:
        picture: A picture opened with Pillow, whose pixels are not loaded yet.
        use: The purpose of the pixels.

    Returns:
        The picture, in the same mode or in RGB or RGBA, and notes on metadata that was applied or ignored.
    """
    cicp = _cicp(picture)  # read first, since Pillow closes the file after loading the pixels
    picture.load()
    picture, notes = _turn_upright(picture)
    if use == "colour":
        picture, more = _convert_to_srgb(picture, cicp=cicp)
        notes += more
    return picture, notes


def _turn_upright(picture: Image) -> tuple[Image, tuple[str, ...]]:
    from PIL.Image import Transpose

    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # the parser of untrusted XML and TIFF raises errors of many types
        return picture, ("EXIF data cannot be parsed; the orientation is unknown",)
    if orientation not in _TURNS:
        return picture, ()
    note = f"turned upright from EXIF orientation {orientation}"
    return picture.transpose(Transpose[_TURNS[orientation]]), (note,)


def _convert_to_srgb(picture: Image, *, cicp: tuple[int, int] | None) -> tuple[Image, tuple[str, ...]]:
    """Convert a picture to sRGB by the first of cICP, iCCP, sRGB, and gAMA with cHRM that can be applied."""
    if cicp in (_CICP_SRGB, _CICP_LINEAR):
        return (picture, ()) if cicp == _CICP_SRGB else _undo_gamma(picture, 1.0, name="cICP")
    notes = () if cicp is None else (f"cICP with primaries {cicp[0]} and transfer {cicp[1]} is not applied",)
    profile, gamma = picture.info.get("icc_profile"), picture.info.get("gamma")
    if profile:
        picture, more = _apply_profile(picture, profile)
    elif "srgb" in picture.info:
        more = ()
    else:
        picture, more = _undo_gamma(picture, gamma)
        more += _primaries_note(picture)
    return picture, (*notes, *more)


def _cicp(picture: Image) -> tuple[int, int] | None:
    """Return primaries and transfer of a PNG's cICP chunk, which Pillow ignores; None without a chunk."""
    from PIL.ImageFile import ImageFile

    if not isinstance(picture, ImageFile) or picture.format != "PNG":
        return None
    file = picture.fp
    assert file is not None, "the picture is loaded already, so its file is closed"
    position = file.tell()
    try:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            if head[4:] == b"cICP":
                body = file.read(int.from_bytes(head[:4], "big"))
                return (body[0], body[1]) if len(body) == 4 else None
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
        return None
    finally:
        file.seek(position)


def _primaries_note(picture: Image) -> tuple[str, ...]:
    """Return a note if the primaries (cHRM) differ from sRGB, since they are not applied."""
    given = picture.info.get("chromaticity")
    if (
        given is None
        or max(abs(a - b) for a, b in zip(given, _SRGB_PRIMARIES, strict=True)) <= _CHROMATICITY_TOLERANCE
    ):
        return ()
    return ("primaries (cHRM) differ from sRGB and are not applied; colours may be wrong",)


def _undo_gamma(picture: Image, gamma: float | None, *, name: str = "gAMA") -> tuple[Image, tuple[str, ...]]:
    """Convert a picture to sRGB from a gamma exponent; ``name`` is the chunk that declares it."""
    if gamma is None or _SRGB_GAMMA[0] <= gamma <= _SRGB_GAMMA[1]:
        return picture, ()
    if not _PLAUSIBLE_GAMMAS[0] <= gamma <= _PLAUSIBLE_GAMMAS[1]:
        return picture, (f"gAMA {gamma:g} is invalid; colours are read as sRGB",)
    colours = _with_8_bit_channels(picture)
    if colours is None:
        return picture, (f"gAMA {gamma:g} is not applied to mode {picture.mode}",)
    light = (np.arange(256, dtype=np.float32) / 255.0) ** (1.0 / gamma)
    curve = np.rint(linear_to_srgb(light) * 255.0).astype(int).tolist()
    bands = len(colours.getbands())
    table = curve if bands == 1 else curve * 3 + list(range(256)) * (bands - 3)
    return colours.point(table), (f"colours converted from {name} {gamma:g} to sRGB",)


def _apply_profile(picture: Image, profile: bytes) -> tuple[Image, tuple[str, ...]]:
    """Convert a picture from its ICC profile to sRGB; an sRGB profile changes nothing and gives no note."""
    from PIL import Image, ImageCms

    colours = _with_8_bit_channels(picture)
    if colours is None:
        return picture, (f"ICC profile is not applied to mode {picture.mode}",)
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(given).strip()[:60] or "without a name"
        if given.profile.xcolor_space.strip() == "RGB" and colours.mode == "L":
            colours = colours.convert("RGB")
        transform = _srgb_transform(given, colours.mode)
        if colours.mode != "L":
            steps = np.stack(np.meshgrid(*[np.arange(0, 256, 51, dtype=np.uint8)] * 3), axis=-1)
            probe = Image.fromarray(np.ascontiguousarray(steps.reshape(6, 36, 3)))
            probed = np.asarray(_srgb_transform(given, "RGB").apply(probe)).astype(int)
            if np.abs(probed - np.asarray(probe)).max() <= _MAX_SRGB_DIFFERENCE:
                return picture, ()
        return transform.apply(colours), (f"colours converted from ICC profile {name!r} to sRGB",)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return picture, (f"ICC profile cannot be applied ({error}); colours are read as sRGB",)


def _srgb_transform(profile: object, mode: str) -> ImageCmsTransform:
    from PIL import ImageCms

    srgb = ImageCms.createProfile("sRGB")
    target = "RGB" if mode == "L" else mode
    return ImageCms.buildTransform(profile, srgb, mode, target)  # type: ignore[arg-type]


def _with_8_bit_channels(picture: Image) -> Image | None:
    """Return the picture with 8 bits per channel and without a palette; None for other modes."""
    match picture.mode:
        case "L" | "RGB" | "RGBA":
            return picture
        case "1":
            return picture.convert("L")
        case "LA" | "P" | "PA":
            return picture.convert("RGBA")
        case _:
            return None

"""What the metadata of a PNG, JPEG or WebP says of its pixels: which side is up, which colours they are."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from pbrlib.colour import linear_to_srgb

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageCms import ImageCmsTransform

Use: TypeAlias = Literal["colour", "normal", "data"]
"""What pixels are read for: only of a colour does the curve matter, a normal or a roughness is numbers."""

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
"""How Pillow turns the pixels of an EXIF orientation upright; 1 is upright."""

_SRGB_GAMMA = (0.44, 0.465)
"""Writers of sRGB put 0.45455 (1 / 2.2) into gAMA, some 0.45; the curve itself is no power."""

_GAMMAS = (0.2, 2.0)
"""Exponents outside of this range are damage: 1 is linear light, 0.55 the Macintosh of old."""

_CICP_SRGB, _CICP_LINEAR = (1, 13), (1, 8)
"""Primaries and transfer (ITU-T H.273) of sRGB, and of the same primaries as linear light."""

_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_SAME_PLACE = 0.01
"""White, red, green and blue in cHRM, x and y of each, and by how much writers round them."""

_SAME = 3
"""Steps of 255 by which a profile may differ from sRGB and still be called sRGB."""


def apply_metadata(picture: Image, *, use: Use) -> tuple[Image, tuple[str, ...]]:
    """Loads a picture, turns it upright (EXIF) and brings its colours to sRGB (cICP, ICC profile, gAMA).

    Colours are brought to sRGB only if ``use`` is "colour". An sRGB chunk comes before gAMA, as the PNG
    specification has it. What cannot be applied is left as it is and named.

    Args:
        picture: An opened picture of Pillow whose pixels are not loaded yet.
        use: What the pixels are read for.

    Returns:
        The picture, of the same mode or of RGB or RGBA, and a note on everything that was done or not.
    """
    cicp = _cicp(picture)  # Pillow closes the file when it loads the pixels
    picture.load()
    picture, notes = _upright(picture)
    if use == "colour":
        picture, more = _in_srgb(picture, cicp=cicp)
        notes += more
    return picture, notes


def _upright(picture: Image) -> tuple[Image, tuple[str, ...]]:
    from PIL.Image import Transpose

    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # parses XML and TIFF from outside, and raises what it likes
        return picture, ("its EXIF block does not parse, so its orientation is not known",)
    if orientation not in _TURNS:
        return picture, ()
    note = f"turned upright, as its EXIF orientation {orientation} says"
    return picture.transpose(Transpose[_TURNS[orientation]]), (note,)


def _in_srgb(picture: Image, *, cicp: tuple[int, int] | None) -> tuple[Image, tuple[str, ...]]:
    """The picture in sRGB by the first of cICP, iCCP, sRGB, and gAMA with cHRM that can be applied."""
    if cicp in (_CICP_SRGB, _CICP_LINEAR):
        return (picture, ()) if cicp == _CICP_SRGB else _without_gamma(picture, 1.0, name="cICP")
    notes = () if cicp is None else (f"its cICP (primaries {cicp[0]}, transfer {cicp[1]}) is not applied",)
    profile, gamma = picture.info.get("icc_profile"), picture.info.get("gamma")
    if profile:
        picture, more = _without_profile(picture, profile)
    elif "srgb" in picture.info:
        more = ()
    else:
        picture, more = _without_gamma(picture, gamma)
        more += _primaries_note(picture)
    return picture, (*notes, *more)


def _cicp(picture: Image) -> tuple[int, int] | None:
    """Primaries and transfer of the cICP chunk of a PNG, which Pillow does not keep; None if it has none."""
    from PIL.ImageFile import ImageFile

    if not isinstance(picture, ImageFile) or picture.format != "PNG":
        return None
    file = picture.fp
    assert file is not None, "the picture is loaded: its file is closed"
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
    """A note on primaries (cHRM) that are not those of sRGB, which are not applied."""
    given = picture.info.get("chromaticity")
    if given is None or max(abs(a - b) for a, b in zip(given, _SRGB_PRIMARIES, strict=True)) <= _SAME_PLACE:
        return ()
    return ("its primaries (cHRM) are not those of sRGB and are not applied: its colours may be off",)


def _without_gamma(
    picture: Image, gamma: float | None, *, name: str = "gAMA"
) -> tuple[Image, tuple[str, ...]]:
    """The picture in sRGB, given the exponent that its colours were raised to, and the chunk that says so."""
    if gamma is None or _SRGB_GAMMA[0] <= gamma <= _SRGB_GAMMA[1]:
        return picture, ()
    if not _GAMMAS[0] <= gamma <= _GAMMAS[1]:
        return picture, (f"its gAMA of {gamma:g} cannot be; its colours are read as sRGB",)
    colours = _colours(picture)
    if colours is None:
        return picture, (f"its gAMA of {gamma:g} is not applied to mode {picture.mode}",)
    light = (np.arange(256, dtype=np.float32) / 255.0) ** (1.0 / gamma)
    curve = np.rint(linear_to_srgb(light) * 255.0).astype(int).tolist()
    bands = len(colours.getbands())
    table = curve if bands == 1 else curve * 3 + list(range(256)) * (bands - 3)
    return colours.point(table), (f"colours of {name} {gamma:g} brought to sRGB",)


def _without_profile(picture: Image, profile: bytes) -> tuple[Image, tuple[str, ...]]:
    """The picture in sRGB; an ICC profile that is sRGB already changes nothing and has no note."""
    from PIL import Image, ImageCms

    colours = _colours(picture)
    if colours is None:
        return picture, (f"its ICC profile is not applied to mode {picture.mode}",)
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = ImageCms.getProfileDescription(given).strip()[:60] or "without a name"
        if given.profile.xcolor_space.strip() == "RGB" and colours.mode == "L":
            colours = colours.convert("RGB")
        transform = _to_srgb(given, colours.mode)
        if colours.mode != "L":
            steps = np.stack(np.meshgrid(*[np.arange(0, 256, 51, dtype=np.uint8)] * 3), axis=-1)
            probe = Image.fromarray(np.ascontiguousarray(steps.reshape(6, 36, 3)))
            probed = np.asarray(_to_srgb(given, "RGB").apply(probe)).astype(int)
            if np.abs(probed - np.asarray(probe)).max() <= _SAME:
                return picture, ()
        return transform.apply(colours), (f"colours brought to sRGB from the ICC profile {name!r}",)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        return picture, (f"its ICC profile does not apply ({error}); its colours are read as sRGB",)


def _to_srgb(profile: object, mode: str) -> ImageCmsTransform:
    from PIL import ImageCms

    srgb = ImageCms.createProfile("sRGB")
    target = "RGB" if mode == "L" else mode
    return ImageCms.buildTransform(profile, srgb, mode, target)  # type: ignore[arg-type]


def _colours(picture: Image) -> Image | None:
    """The picture with 8 bits a channel and without a palette; None for what has other channels."""
    match picture.mode:
        case "L" | "RGB" | "RGBA":
            return picture
        case "1":
            return picture.convert("L")
        case "LA" | "P" | "PA":
            return picture.convert("RGBA")
        case _:
            return None

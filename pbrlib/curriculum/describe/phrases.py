"""Formats specs, durations and sizes as short phrases for tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pbrlib.curriculum.spec import plain
from pbrlib.spec import Spec


def phrases(spec: Spec) -> list[str]:
    """Return the values of a spec that differ from the defaults, such as ``sky_photometric(p 0.6)``."""
    found = []
    for name, field in type(spec).model_fields.items():
        value = getattr(spec, name)
        if value == field.get_default(call_default_factory=True) or value is None:
            continue
        if isinstance(value, bool):
            found.append(name if value else f"no {name}")
        else:
            found.append(_phrase(name, plain(value)))
    return found


def _phrase(name: str, value: Any) -> str:
    if isinstance(value, list):
        return f"{name}({', '.join(map(str, value))})"
    if not isinstance(value, Mapping):
        return f"{name} {value}"
    return f"{name}({', '.join(_phrase(key, entry) for key, entry in value.items())})"


def duration(seconds: float) -> str:
    """Format a duration as ``1 h 05 min``, ``3 min 20 s`` or ``45 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def size(num_bytes: float) -> str:
    """Format a size in decimal units with one to three digits: ``640 KB``, ``1.3 MB``, ``27 GB``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= factor:
            value = num_bytes / factor
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{num_bytes / 1e3:.0f} KB"

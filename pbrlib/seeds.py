"""Seeds derived from what they are for, so that none is ever saved."""

from __future__ import annotations

import hashlib


def mix(*parts: int | str) -> int:
    """A 63-bit seed from a path of integers and names; equal paths give equal seeds."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def uniform(*parts: int | str) -> float:
    """A number in [0, 1) from a path of integers and names, for a choice made once per seed."""
    return mix(*parts) / 2.0**63

"""Derives random seeds from integers and names, so that no random state has to be saved."""

from __future__ import annotations

import hashlib


def mix(*parts: int | str) -> int:
    """Return a 63-bit seed for a sequence of integers and names; equal sequences give equal seeds."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def uniform(*parts: int | str) -> float:
    """Return a number in [0, 1) for a sequence of integers and names, for a choice made once per seed."""
    return mix(*parts) / 2.0**63

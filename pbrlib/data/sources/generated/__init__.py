"""Procedural materials: all seven classes, all maps, tileable, seeded; no data and no network needed."""

from pbrlib.data.sources.generated.source import STYLES, GeneratedSource

__all__ = ["STYLES", "GeneratedSource"]

"""Generates procedural materials: all seven classes, all maps, tileable, from a seed; needs no files."""

from pbrlib.data.sources.generated.source import STYLES, GeneratedSource

__all__ = ["STYLES", "GeneratedSource"]

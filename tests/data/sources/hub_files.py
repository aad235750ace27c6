"""Writes small Parquet files with the schema of MatSynth."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pbrlib.data.sources.hub import CATEGORIES
from tests.data.sources.folders import bumps, colours

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
IMAGES = (
    "basecolor",
    "diffuse",
    "displacement",
    "height",
    "metallic",
    "normal",
    "opacity",
    "roughness",
    "specular",
    "blend_mask",
)
METADATA = pa.struct(
    [
        ("authors", pa.list_(pa.string())),
        ("description", pa.string()),
        ("height_factor", pa.float32()),
        ("height_mean", pa.float32()),
        ("license", pa.string()),
        ("link", pa.string()),
        ("maps", pa.list_(pa.string())),
        ("method", pa.string()),
        ("name", pa.string()),
        ("physical_size", pa.float32()),
        ("source", pa.string()),
        ("stationary", pa.bool_()),
        ("tags", pa.list_(pa.string())),
        ("version_date", pa.string()),
    ]
)
SCHEMA = pa.schema(
    [("name", pa.string()), ("category", pa.int64()), ("metadata", METADATA)] + [(n, IMAGE) for n in IMAGES]
)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def mound(size: int = 32) -> np.ndarray:
    """Return the height of ``bumps``, 16 bits ``(size, size)``."""
    rows, cols = np.meshgrid(*[np.arange(size) * 2 * np.pi / size] * 2, indexing="ij")
    return np.rint((np.sin(2 * cols) * np.cos(rows) * 0.5 + 0.5) * 65535).astype(np.uint16)


def row(
    name: str,
    category: str | int | None,
    *,
    seed: int = 0,
    size: int = 32,
    licence: str | None = "CC0",
    authors: Sequence[str] | None = None,
    link: str | None = None,
    **images: np.ndarray | bytes | None,
) -> dict[str, Any]:
    """Return a row with small images; an argument replaces an image, None omits it."""
    pictures: dict[str, np.ndarray | bytes | None] = {
        "basecolor": colours(seed, size),
        "diffuse": np.zeros((size, size, 3), np.uint8),  # as of a metal in the other workflow
        "displacement": mound(size),
        "height": mound(size),
        "metallic": np.zeros((size, size), np.uint8),
        "normal": bumps(size),
        "roughness": colours(seed + 1, size)[..., 0],
        "specular": np.full((size, size, 3), 56, np.uint8),
        **images,
    }
    encoded = {n: png(p) if isinstance(p, np.ndarray) else p for n, p in pictures.items()}
    return {
        "name": name,
        "category": CATEGORIES.index(category) if isinstance(category, str) else category,
        "metadata": {
            "authors": authors,
            "height_factor": 0.001,
            "license": licence,
            "link": link,
            "physical_size": float("nan"),
            "stationary": True,
        },
        **{n: None if data is None else {"bytes": data, "path": f"{n}.png"} for n, data in encoded.items()},
    }


def write(
    path: Path,
    *rows: Mapping[str, Any],
    group: int = 2,
    schema: pa.Schema = SCHEMA,
    names: Sequence[str] | None = CATEGORIES,
) -> Path:
    """Write a file of rows in groups of ``group``, with the names of the categories in its metadata."""
    if names is not None:
        features = {"category": {"names": list(names), "_type": "ClassLabel"}}
        schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, row_group_size=group)
    return path

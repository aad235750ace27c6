"""A trained SegFormer as transformers reads it, from a folder or by its name on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from pbrlib.errors import CheckpointError, first_line

if TYPE_CHECKING:
    from transformers import SegformerForSemanticSegmentation


def read_donor(
    source: str, *, place: str, remedy: str, local_files_only: bool = False
) -> tuple[SegformerForSemanticSegmentation, set[str]]:
    """The donor as transformers reads it, whatever layout its file has, and the names its file lacks.

    ``place`` and ``remedy`` begin and end the error.
    """
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    where = {"local_files_only": local_files_only}
    try:
        kind = SegformerConfig.get_config_dict(source, **where)[0].get("model_type")
        if kind != "segformer":
            raise ValueError(f"a model of type {kind}, not segformer")
        with without_bars():
            donor, info = SegformerForSemanticSegmentation.from_pretrained(
                source, output_loading_info=True, **where
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{place} cannot be read ({first_line(error)}). {remedy}") from error
    return donor, set(info["missing_keys"])


@contextmanager
def without_bars() -> Iterator[None]:
    """Keeps transformers from drawing a bar for each file, which would stand among a command's own lines."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

"""Loads a trained SegFormer with transformers, from a folder or by its name on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from pbrlib.errors import CheckpointError, first_line

if TYPE_CHECKING:
    from transformers import SegformerForSemanticSegmentation


def load_transformers_segformer(
    source: str, *, place: str, remedy: str, local_files_only: bool = False
) -> tuple[SegformerForSemanticSegmentation, set[str]]:
    """Load a SegFormer with transformers; also return the parameter names that its file lacks.

    ``place`` is the first and ``remedy`` the last part of the CheckpointError raised for an unreadable model.
    """
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    options = {"local_files_only": local_files_only}
    try:
        kind = SegformerConfig.get_config_dict(source, **options)[0].get("model_type")
        if kind != "segformer":
            raise ValueError(f"got a model of type {kind}; expected segformer")
        with hide_progress_bars():
            donor, info = SegformerForSemanticSegmentation.from_pretrained(
                source, output_loading_info=True, **options
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{place} cannot be read ({first_line(error)}). {remedy}") from error
    return donor, set(info["missing_keys"])


@contextmanager
def hide_progress_bars() -> Iterator[None]:
    """Turn off transformers' progress bars for the block; they would mix with the command's own output."""
    from transformers.utils import logging

    were_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_enabled:
            logging.enable_progress_bar()

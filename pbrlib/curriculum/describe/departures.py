"""Lists where the training under a runtime departs from the mathematics that a phase declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pbrlib.curriculum.lossweights import capped_weights
from pbrlib.curriculum.spec import PhaseSpec
from pbrlib.data.shards.index import IndexRow
from pbrlib.losses.base import RatioTerm
from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.perceptual import SCALE_WEIGHTS, num_scales
from pbrlib.losses.termmodules import module_of
from pbrlib.tasks.taskspec import TaskSpec
from pbrlib.train.runtimespec import RuntimeSpec


def departures(
    phase: PhaseSpec, task: TaskSpec, runtime: RuntimeSpec, *, rows: Sequence[IndexRow] | None = None
) -> list[str]:
    """Return one sentence per departure; empty if a phase is trained as declared, up to rounding in fp32.

    Capped class weights are included if the ``rows`` of the data are given.
    """
    pieces = runtime.micro_batches(phase.batch)
    found = []
    if runtime.precision == "bf16":
        found.append("bf16: networks compute with 8 significant bits; weights, logits and losses stay fp32")
    for player in phase.by_player():
        found += map(player.labelled, _of_loss(player.spec.loss, crop=phase.crop, pieces=pieces))
    if task.kind == "segmentation" and (statistics := _batch_norm(runtime, pieces)):
        found.append(f"batch norm of the decoder: statistics of {statistics}, not of the batch")
    if rows is not None and (capped := capped_weights(phase, task, rows)):
        found.append(capped)
    return found


def _of_loss(loss: LossSpec, *, crop: int, pieces: int) -> Iterator[str]:
    """Yield the departures of loss terms; ``pieces`` is the number of micro-batches per step."""
    ratios = [term.symbol for term in loss.terms().values() if issubclass(module_of(term), RatioTerm)]
    if ratios and pieces > 1:
        symbols = ", ".join(ratios)
        yield f"{symbols}: computed per micro-batch over all workers ({pieces} per step), not per batch"
    if loss.ms_ssim is not None and (scales := num_scales(crop)) < len(SCALE_WEIGHTS):
        yield f"MS-SSIM: only the {scales} finest of {len(SCALE_WEIGHTS)} scales, since a crop has {crop} px"
    if loss.lpips is not None and loss.lpips.backbone == "random":
        yield "LPIPS: random weights instead of trained ones, so the term is not LPIPS"


def _batch_norm(runtime: RuntimeSpec, pieces: int) -> str:
    """Return the part of a batch that a batch norm's statistics use; only GPUs synchronise them."""
    apart = runtime.workers > 1 and runtime.device == "cpu"
    match apart, pieces > 1:
        case True, True:
            return "each worker's micro-batch"
        case True, False:
            return "each worker's share"
        case False, True:
            return "each micro-batch"
        case _:
            return ""

"""Where a runtime departs from the mathematics that a phase declares; plans say so."""

from __future__ import annotations

from pbrlib.curriculum.spec import PhaseSpec
from pbrlib.losses.base import RatioTerm
from pbrlib.losses.perceptual import SCALE_WEIGHTS, num_scales
from pbrlib.tasks.taskspec import TaskSpec
from pbrlib.train.runtimespec import RuntimeSpec


def departures(phase: PhaseSpec, task: TaskSpec, runtime: RuntimeSpec) -> list[str]:
    """One sentence for each departure; empty where a phase is trained as written, up to rounding in fp32."""
    pieces = runtime.micro_batches(phase.batch)
    found = []
    if runtime.precision == "bf16":
        found.append("bf16: networks compute with 8 significant bits; weights and losses stay fp32")
    ratios = [term.symbol for term in phase.loss.terms().values() if issubclass(term.module, RatioTerm)]
    if ratios and pieces > 1:
        found.append(f"{', '.join(ratios)}: per micro-batch over all workers, {pieces} a step, not per batch")
    if task.kind == "segmentation" and (statistics := _batch_norm(runtime, pieces)):
        found.append(f"batch norm of the decoder: statistics of {statistics}, not of the batch")
    if phase.loss.ms_ssim is not None and (scales := num_scales(phase.crop)) < len(SCALE_WEIGHTS):
        found.append(
            f"MS-SSIM: the {scales} finest of {len(SCALE_WEIGHTS)} scales, since {phase.crop} px hold no more"
        )
    if phase.loss.lpips is not None and phase.loss.lpips.backbone == "random":
        found.append("LPIPS: over a random trunk, which is no LPIPS")
    return found


def _batch_norm(runtime: RuntimeSpec, pieces: int) -> str:
    """What its statistics are taken over where that is less than a batch; only GPUs synchronise them."""
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

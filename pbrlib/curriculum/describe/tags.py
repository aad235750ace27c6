"""What a phase is, in a few plain values: its hyperparameters in TensorBoard and in tables."""

from __future__ import annotations

from pbrlib.curriculum.describe.phrases import phrases
from pbrlib.curriculum.spec import Curriculum
from pbrlib.models.build import AnyNetwork
from pbrlib.optim.groups import frozen_prefixes, parameter_groups, stage_of

Tag = str | int | float


def tags_of(curriculum: Curriculum, phase: str, *, network: AnyNetwork) -> dict[str, Tag]:
    """The tags of a phase of a scaled curriculum; ``network`` may lie on the meta device.

    ``freeze_depth`` counts the encoder stages that are frozen whole, ``rate/GROUP`` are peak rates.
    """
    spec = curriculum.phases[phase]
    held = frozen_prefixes(network, spec.optimizer)
    tags: dict[str, Tag] = {
        "curriculum": curriculum.name,
        "phase": phase,
        "task": curriculum.task.kind,
        "resolution": spec.crop,
        "model": network.label,
        "mix": ", ".join(f"{name} {share:.3g}" for name, share in spec.data.items()),
        "augmentation": ", ".join(phrases(spec.augment)) or "none",
        "freeze_depth": _stages_frozen(network, held),
        "frozen": ", ".join(held) or "nothing",
        "optimizer": spec.optimizer.kind,
        "weight_decay": spec.optimizer.weight_decay,
        "layer_decay": spec.optimizer.layer_decay or 1.0,
        "schedule": spec.schedule.describe(),
        "loss": spec.loss.formula(),
        "batch": spec.batch,
        "epochs": spec.epochs,
        "seed": curriculum.seed,
        "starts_from": spec.starts_from or "fresh weights",
    }
    rates = {group.name: group.lr for group in parameter_groups(network, spec.optimizer) if not group.frozen}
    return {**tags, **{f"rate/{name}": rate for name, rate in rates.items()}}


def _stages_frozen(network: AnyNetwork, held: tuple[str, ...]) -> int:
    """Encoder stages without a parameter that learns."""
    learns: dict[int, bool] = {}
    for name, _ in network.named_parameters():
        stage = stage_of(name)
        if stage is not None:
            frozen = any(name.startswith(f"{prefix}.") for prefix in held)
            learns[stage] = learns.get(stage, False) or not frozen
    return sum(not one for one in learns.values())

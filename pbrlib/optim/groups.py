"""Sorts parameters into optimizer groups by name patterns: each parameter once, every rule must match."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from pbrlib.errors import ConfigError
from pbrlib.optim.optimizerspec import AdamWSpec, GroupSpec, OptimizerSpec

BASE = "base"
"""Name of the group of parameters that no rule matches."""

_STAGE = re.compile(r"encoder\.stages\.(\d+)\.")


@dataclass(frozen=True)
class ParamGroup:
    """A group of parameters with the same learning rate and weight decay.

    Attributes:
        name: Name of the rule, followed by ``.stages.K`` if layer decay splits it by encoder stage, and by
            ``/no_decay`` for norms, biases and FiLM.
        lr: Learning rate before the schedule, layer decay included; 0 if frozen.
        factor: The layer-decay factor included in ``lr``; the end rate is multiplied by it too.
        weight_decay: Decoupled weight decay.
        final: The group's own end rate before ``factor``; None uses the schedule's.
        names: Names of the parameters.
        frozen: Whether the parameters are left out of the optimizer.
    """

    name: str
    lr: float
    factor: float
    weight_decay: float
    final: float | None
    names: tuple[str, ...]
    frozen: bool


def stage_of(name: str) -> int | None:
    """Return the encoder stage of a parameter by its name; None outside the encoder."""
    match = _STAGE.match(name)
    return int(match.group(1)) if match else None


def parameter_groups(module: nn.Module, spec: OptimizerSpec) -> list[ParamGroup]:
    """Sort the parameters of ``module`` into groups, in the order of the rules.

    ``module`` may be on the meta device. Every parameter is in exactly one group. With layer decay ``d``
    (LLRD), encoder stage k has the rate of its rule times ``d ** (last - k)``: the deepest stage has the base
    rate, the stem the smallest.

    Raises:
        ConfigError: A pattern matches no parameter, earlier rules match all parameters of a rule, layer decay
            is set for a group without an encoder stage, or every parameter is frozen.
    """
    shapes = {name: parameter.ndim for name, parameter in module.named_parameters()}
    rules = {**spec.groups, BASE: GroupSpec(match="*")}
    claims = _claim(shapes, spec.groups)
    last = max((stage for stage in map(stage_of, shapes) if stage is not None), default=0)
    groups = [
        group
        for rule, names in claims.items()
        for group in _split(rule, rules[rule], spec, {name: shapes[name] for name in names}, last=last)
    ]
    if all(group.frozen for group in groups):
        raise ConfigError(
            "optimizer.groups: got only frozen parameters; expected at least one group that trains. "
            "Set freeze: false for one group."
        )
    return groups


def build_optimizer(module: nn.Module, spec: OptimizerSpec) -> torch.optim.AdamW:
    """Build AdamW over the groups of ``module`` and set ``requires_grad`` of each parameter accordingly.

    Besides torch's keys, each of its ``param_groups`` has the keys that `pbrlib.optim.schedules.apply_rates`
    reads: ``name``, ``peak`` (the group's rate), ``factor``, ``final`` and ``reference`` (the optimizer's
    ``lr``).

    Raises:
        ConfigError: See `parameter_groups`.
    """
    parameters = dict(module.named_parameters())
    param_groups = []
    for group in parameter_groups(module, spec):
        members = [parameters[name] for name in group.names]
        for parameter in members:
            parameter.requires_grad_(not group.frozen)
        if not group.frozen:
            param_groups.append(
                {
                    "params": members,
                    "name": group.name,
                    "lr": group.lr,
                    "weight_decay": group.weight_decay,
                    "peak": group.lr,
                    "factor": group.factor,
                    "final": group.final,
                    "reference": spec.lr,
                }
            )
    # Fused on GPUs; on a CPU the plain loop, whose result does not depend on how tensors are grouped.
    fused = all(parameter.is_cuda for parameter in parameters.values())
    return torch.optim.AdamW(param_groups, lr=spec.lr, betas=spec.betas, fused=fused, foreach=False)


def frozen_prefixes(module: nn.Module, spec: OptimizerSpec) -> tuple[str, ...]:
    """Return the names of the outermost submodules with only frozen parameters, to be set to eval mode.

    In train mode a frozen batch norm would still update its running statistics, and dropout would be active.
    """
    frozen = {name for group in parameter_groups(module, spec) if group.frozen for name in group.names}
    return tuple(_outermost(module, frozen, prefix=""))


def frozen_modules(module: nn.Module, spec: OptimizerSpec) -> tuple[nn.Module, ...]:
    """Return the submodules that `frozen_prefixes` names."""
    return tuple(module.get_submodule(prefix) for prefix in frozen_prefixes(module, spec))


def _outermost(module: nn.Module, frozen: set[str], *, prefix: str) -> Iterator[str]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        members = [f"{path}.{member}" for member, _ in child.named_parameters()]
        if members and frozen.issuperset(members):
            yield path
        else:
            yield from _outermost(child, frozen, prefix=f"{path}.")


def _claim(shapes: Mapping[str, int], rules: Mapping[str, GroupSpec]) -> dict[str, list[str]]:
    """Return parameter names by rule; the first match wins, and the rest is under ``base``."""
    left = list(shapes)
    claims: dict[str, list[str]] = {}
    for rule, group in rules.items():
        for pattern in group.patterns:
            if not any(fnmatchcase(name, pattern) for name in shapes):
                raise ConfigError(_no_match(rule, pattern, shapes))
        claims[rule] = [name for name in left if any(fnmatchcase(name, p) for p in group.patterns)]
        if not claims[rule]:
            raise ConfigError(
                f"optimizer.groups.{rule}.match: got only parameters that earlier rules match; expected more."
                " Move the rule before them, or leave it out."
            )
        left = [name for name in left if name not in claims[rule]]
    if left:
        claims[BASE] = left
    return claims


def _split(
    rule: str, group: GroupSpec, spec: AdamWSpec, shapes: Mapping[str, int], *, last: int
) -> list[ParamGroup]:
    """Split the parameters of a rule by encoder stage (with layer decay) and by whether they decay."""
    if group.freeze:
        return [ParamGroup(rule, 0.0, 1.0, 0.0, None, tuple(shapes), frozen=True)]
    if group.layer_decay is not None and all(stage_of(name) is None for name in shapes):
        raise ConfigError(
            f"optimizer.groups.{rule}.layer_decay: got a group without an encoder stage; expected "
            "encoder.stages.* in its match. Leave layer_decay out."
        )
    decay = group.layer_decay if group.layer_decay is not None else spec.layer_decay
    weight_decay = group.weight_decay if group.weight_decay is not None else spec.weight_decay
    parts: dict[tuple[str, float, float], list[str]] = {}
    for name, ndim in shapes.items():
        stage = stage_of(name) if decay is not None else None
        title = rule if stage is None else f"{rule}.stages.{stage}"
        factor = 1.0 if stage is None or decay is None else decay ** (last - stage)
        decays = weight_decay > 0 and not _never_decays(name, ndim)
        suffix = "" if decays or weight_decay == 0 else "/no_decay"
        parts.setdefault((title + suffix, factor, weight_decay if decays else 0.0), []).append(name)
    base = group.lr if group.lr is not None else spec.lr
    return [
        ParamGroup(title, base * factor, factor, part_decay, group.final, tuple(names), frozen=False)
        for (title, factor, part_decay), names in parts.items()
    ]


def _never_decays(name: str, ndim: int) -> bool:
    """Return whether a parameter is exempt from weight decay: FiLM, and norms and biases (one dimension)."""
    return ndim <= 1 or name.startswith("film.")


def _no_match(rule: str, pattern: str, shapes: Mapping[str, int]) -> str:
    """Return the error for a pattern without a match, with the nearest name and the top-level modules."""
    parts = [name.split(".") for name in shapes]
    known = {".".join([*p[:depth], "*"]) for p in parts for depth in range(1, len(p))} | set(shapes)
    close = difflib.get_close_matches(pattern, sorted(known), n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    tops = ", ".join(f"{top}.*" for top in dict.fromkeys(p[0] for p in parts))
    return f"optimizer.groups.{rule}.match: {pattern!r} matches no parameter. {hint}The network has {tops}."

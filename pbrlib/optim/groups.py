"""Rules over parameter names to optimizer groups: each parameter once, each rule used, each rate stated."""

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
"""The group of parameters that no rule claims."""

_STAGE = re.compile(r"encoder\.stages\.(\d+)\.")


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share rate and decay.

    Attributes:
        name: Name of the rule, ``.stages.K`` behind it where layer decay splits it by encoder stage, and
            ``/no_decay`` behind that for norms, biases and FiLM.
        lr: Rate before the schedule, layer decay included; 0 if frozen.
        factor: The layer-decay factor that ``lr`` holds; an end rate is multiplied by it.
        weight_decay: Decoupled decay.
        final: The group's own end rate before ``factor``; None takes the schedule's.
        names: The parameters.
        frozen: Whether they stay as they are, out of the optimizer.
    """

    name: str
    lr: float
    factor: float
    weight_decay: float
    final: float | None
    names: tuple[str, ...]
    frozen: bool


def stage_of(name: str) -> int | None:
    """The encoder stage of a parameter of any network of `pbrlib.models`; None outside the encoder."""
    match = _STAGE.match(name)
    return int(match.group(1)) if match else None


def parameter_groups(module: nn.Module, spec: OptimizerSpec) -> list[ParamGroup]:
    """Sorts the parameters of ``module`` (the meta device will do) into groups, in the order of the rules.

    Every parameter lies in exactly one group. With layer decay ``d``, encoder stage k has the rate of its
    rule times ``d ** (last - k)``: the deepest has the base rate, the stem the smallest.

    Raises:
        ConfigError: A pattern matches no parameter, a rule is left without any because earlier ones claim
            them, layer decay is set where there is no encoder stage, or everything is frozen.
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
        raise ConfigError("optimizer.groups: every parameter is frozen. Leave one group to train.")
    return groups


def build_optimizer(module: nn.Module, spec: OptimizerSpec) -> torch.optim.AdamW:
    """AdamW over the groups of ``module``; frozen parameters stop asking for gradients, others start to.

    Each of its ``param_groups`` carries, besides torch's keys, what `pbrlib.optim.schedules.apply_rates`
    reads: ``name``, ``peak`` (the group's rate), ``factor``, ``final`` and ``reference`` (the optimizer's
    own rate).

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
    # One kernel for all parameters where there is a GPU; on CPU the plain loop, whose result does not
    # depend on how tensors are batched together.
    fused = all(parameter.is_cuda for parameter in parameters.values())
    return torch.optim.AdamW(param_groups, lr=spec.lr, betas=spec.betas, fused=fused, foreach=False)


def frozen_prefixes(module: nn.Module, spec: OptimizerSpec) -> tuple[str, ...]:
    """The outermost submodules all of whose parameters are frozen; they belong in eval mode.

    A batch norm would otherwise go on moving its running mean, and dropout go on dropping.
    """
    frozen = {name for group in parameter_groups(module, spec) if group.frozen for name in group.names}
    return tuple(_outermost(module, frozen, prefix=""))


def frozen_modules(module: nn.Module, spec: OptimizerSpec) -> tuple[nn.Module, ...]:
    """The submodules named by `frozen_prefixes`."""
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
    """Names by rule, first match wins; the rest under ``base`` where there is a rest."""
    left = list(shapes)
    claims: dict[str, list[str]] = {}
    for rule, group in rules.items():
        for pattern in group.patterns:
            if not any(fnmatchcase(name, pattern) for name in shapes):
                raise ConfigError(_no_match(rule, pattern, shapes))
        claims[rule] = [name for name in left if any(fnmatchcase(name, p) for p in group.patterns)]
        if not claims[rule]:
            raise ConfigError(
                f"optimizer.groups.{rule}.match: earlier rules claim every parameter that it matches. "
                "Put it before them, or leave it out."
            )
        left = [name for name in left if name not in claims[rule]]
    if left:
        claims[BASE] = left
    return claims


def _split(
    rule: str, group: GroupSpec, spec: AdamWSpec, shapes: Mapping[str, int], *, last: int
) -> list[ParamGroup]:
    """The groups of one rule: by encoder stage where layer decay acts, then by whether weights decay."""
    if group.freeze:
        return [ParamGroup(rule, 0.0, 1.0, 0.0, None, tuple(shapes), frozen=True)]
    if group.layer_decay is not None and all(stage_of(name) is None for name in shapes):
        raise ConfigError(
            f"optimizer.groups.{rule}.layer_decay: the group holds no encoder stage. Leave it out."
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
    """Norms and biases are what has one dimension. None of our networks has position embeddings."""
    return ndim <= 1 or name.startswith("film.")


def _no_match(rule: str, pattern: str, shapes: Mapping[str, int]) -> str:
    """The error for a pattern without a match, with what was probably meant and what there is."""
    parts = [name.split(".") for name in shapes]
    known = {".".join([*p[:depth], "*"]) for p in parts for depth in range(1, len(p))} | set(shapes)
    close = difflib.get_close_matches(pattern, sorted(known), n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    tops = ", ".join(f"{top}.*" for top in dict.fromkeys(p[0] for p in parts))
    return f"optimizer.groups.{rule}.match: {pattern!r} matches no parameter. {hint}The network has {tops}."

"""Export the journal values of a training phase to Prometheus as Ray gauges."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ray.util.metrics import Gauge

LABELS = ("curriculum", "phase", "run")
"""``run`` is the beginning of the fingerprint, which the phase's folder has in its name too."""

_PLAIN = {
    "samples_per_s": (
        "pbr_samples_per_second",
        "Samples of the global batch, mean since the last validation.",
    ),
    "step_s": ("pbr_step_seconds", "Time of an optimizer step, its wait for input included."),
    "input_stall": ("pbr_input_stall_ratio", "Share of the time spent waiting for input, in [0, 1]."),
    "checkpoint_s": ("pbr_checkpoint_seconds", "Writing the last checkpoint and handing it over."),
    "bad_samples": ("pbr_bad_samples", "Draws of damaged tiles that others stood in for."),
    "gpu_peak_bytes": ("pbr_gpu_memory_peak_bytes", "What tensors of rank 0 held at most."),
}
"""The name of a journal value -> the name and the description of its gauge."""

_PROGRESS = ("pbr_progress_ratio", "Finished steps of all, in [0, 1].")
_NORM = ("pbr_gradient_norm", "Norm of the gradient before it is clipped; of several players each.")
_LOSS = ("pbr_loss", "Training loss, and its terms before their weights.")
_VALIDATION = ("pbr_validation", "Metrics of the last validation.")

SERVED = tuple(f"ray_{name}" for name, _ in (*_PLAIN.values(), _PROGRESS, _NORM, _LOSS, _VALIDATION))
"""The names of all gauges in Prometheus."""


class PhaseGauges:
    """The gauges of one phase on the process of rank 0; Ray serves them until that process has ended."""

    def __init__(self, *, curriculum: str, phase: str, run: str) -> None:
        self._labels = {"curriculum": curriculum, "phase": phase, "run": run}
        self._plain = {name: Gauge(*gauge, tag_keys=LABELS) for name, gauge in _PLAIN.items()}
        self._progress = Gauge(*_PROGRESS, tag_keys=LABELS)
        self._norm = Gauge(*_NORM, tag_keys=(*LABELS, "player"))
        self._loss = Gauge(*_LOSS, tag_keys=(*LABELS, "term"))
        self._validation = Gauge(*_VALIDATION, tag_keys=(*LABELS, "metric"))
        self._served: set[tuple[Gauge, frozenset[tuple[str, str]]]] = set()

    def set(self, values: Mapping[str, object], *, step: int) -> None:
        """Set the gauges of the given journal values; ignore values that have no gauge."""
        for name, value in values.items():
            if not isinstance(value, int | float):
                continue
            kind, _, rest = name.partition("/")
            if name == "total_steps":
                self._set(self._progress, step / value)
            elif name in self._plain:
                self._set(self._plain[name], value)
            elif name.rpartition("/")[2] == "gradient_norm":
                self._set(self._norm, value, player=name.rpartition("/")[0])
            elif kind == "train":
                self._set(self._loss, value, term=_term(rest))
            elif kind == "val":
                self._set(self._validation, value, metric=rest)

    def clear(self) -> None:
        """Set every gauge to NaN, which no chart draws: the process may train other phases after this one."""
        for gauge, labels in self._served:
            gauge.set(math.nan, dict(labels))

    def _set(self, gauge: Gauge, value: float, **labels: str) -> None:
        tags = {**self._labels, **labels}
        self._served.add((gauge, frozenset(tags.items())))
        gauge.set(value, tags)


def _term(name: str) -> str:
    """The label of a loss term: ``l1``, ``total``; of several players ``critic/total``."""
    player, _, term = name.rpartition("/")
    label = "total" if term == "loss" else term
    return f"{player}/{label}" if player else label

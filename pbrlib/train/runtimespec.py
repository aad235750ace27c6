"""How a run uses its machines: nothing here changes what is learned, but precision and micro-batches."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from pbrlib.data.shards.readspec import OnBadSample, TileCacheSpec
from pbrlib.errors import ConfigError
from pbrlib.spec import Spec

TrackerName = Literal["mlflow", "wandb"]


class RuntimeSpec(Spec):
    """Workers and what each does; lives in a file of its own, beside the curriculum.

    With ``min_workers`` training is elastic: it goes on with so many of its ``workers`` where nodes are lost,
    and every ``resize_check_s`` looks whether there is room for more; a change costs the steps since the last
    checkpoint. None: it waits for all of them. ``threads_per_worker`` are torch's intra-op threads.
    ``batch_per_device`` is the largest micro-batch that fits a device: local batch and accumulation follow
    from it and the curriculum's global batch, for the fewest workers (None: the local batch in one piece).
    ``data_cpus`` are the logical CPUs of each worker's data stream; the worker holds them beside its own
    ``cpus_per_worker``. ``prefetch`` batches are collated ahead.
    A batch that takes longer than ``input_timeout_s`` ends the attempt, and so does a rank that leaves the
    others waiting in a collective for ``collective_timeout_s``, which is longer, since they wait for its
    batches too.
    ``tile_cache`` keeps decoded tiles on each node, for all that trains there.
    ``trackers`` are told of every phase beside TensorBoard; ``profile_steps`` of each phase are traced.
    ``on_bad_sample`` says what becomes of a draw whose tiles are damaged: it ends the training, or another
    draw of its batch stands in for it and it is counted; a damaged validation texture always ends it.
    ``record_batches`` writes a hash of every sample after augmentation, which costs time: for proving that
    two runs saw the same.
    """

    workers: int = Field(default=2, ge=1)
    min_workers: int | None = Field(default=None, ge=1)
    resize_check_s: float = Field(default=60.0, gt=0.0)
    device: Literal["cpu", "cuda"] = "cpu"
    cpus_per_worker: float = Field(default=1.0, gt=0.0)
    threads_per_worker: int = Field(default=1, ge=1)
    data_cpus: float = Field(default=1.0, gt=0.0)
    prefetch: int = Field(default=2, ge=1)
    tile_cache: TileCacheSpec | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    batch_per_device: int | None = Field(default=None, ge=1)
    channels_last: bool = False
    compile: bool = False
    input_timeout_s: int = Field(default=600, ge=1)
    collective_timeout_s: int = Field(default=900, ge=1)
    max_failures: int = Field(default=3, ge=0)
    ray_logs: bool = False
    trackers: tuple[TrackerName, ...] = ()
    profile_steps: int = Field(default=0, ge=0)
    on_bad_sample: OnBadSample = "fail"
    record_batches: bool = False

    @model_validator(mode="after")
    def _no_more_than_all(self) -> Self:
        if self.fewest_workers > self.workers:
            raise ValueError(
                f"min_workers: {self.min_workers} is more than the {self.workers} workers there are at most. "
                f"Use {self.workers} or less."
            )
        return self

    @model_validator(mode="after")
    def _waits_in_order(self) -> Self:
        if self.collective_timeout_s <= self.input_timeout_s:
            raise ValueError(
                f"collective_timeout_s: {self.collective_timeout_s} is not longer than input_timeout_s, "
                f"{self.input_timeout_s}, and ranks wait in a collective for one that waits for its input. "
                f"Use {self.input_timeout_s + 60} or more."
            )
        return self

    @property
    def fewest_workers(self) -> int:
        """With how many workers training goes on."""
        return self.workers if self.min_workers is None else self.min_workers

    def at_fewest(self) -> RuntimeSpec:
        """The same with the fewest workers, and no more: each has the largest share of a batch."""
        return self.model_copy(update={"workers": self.fewest_workers, "min_workers": None})

    @property
    def cpus_of_worker(self) -> float:
        """CPUs that one worker holds, its data stream's among them."""
        return self.cpus_per_worker + self.data_cpus

    @property
    def logical_cpus(self) -> float:
        """CPUs of all workers and of their data streams."""
        return self.workers * self.cpus_of_worker

    def micro_batches(self, global_batch: int) -> int:
        """The number of micro-batches per step that keeps each within ``batch_per_device``.

        Elastic training keeps it when workers come and go: it is part of what is learned.
        """
        local = -(-global_batch // self.fewest_workers)
        return 1 if self.batch_per_device is None else -(-local // self.batch_per_device)


class Selection(Spec):
    """The validation metric that chooses the best checkpoint of a phase."""

    metric: str
    mode: Literal["min", "max"]

    def score(self, metrics: Mapping[str, float]) -> float:
        """Larger is better, not a number the worst; raises ConfigError when the metric is not among them."""
        if self.metric not in metrics:
            raise ConfigError(
                f"the selection metric {self.metric} was not measured. "
                f"Measured: {', '.join(sorted(metrics))}."
            )
        value = metrics[self.metric]
        if math.isnan(value):
            return -math.inf
        return value if self.mode == "max" else -value

    def comparable(self, metrics: Mapping[str, float]) -> float:
        """The metric as a finite number; where it was not measured or is none, the worst that there is.

        Ray keeps its record in JSON, which has no infinities.
        """
        value, largest = metrics.get(self.metric, math.nan), sys.float_info.max
        if math.isnan(value):
            return -largest if self.mode == "max" else largest
        return min(max(value, -largest), largest)

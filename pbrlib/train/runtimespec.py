"""Spec of the runtime file; of its options only precision and micro-batches change what is learned."""

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
    """The resources and options of a run; it has a file of its own, apart from the curriculum.

    With ``min_workers`` training is elastic: it continues with at least this many of its ``workers`` if nodes
    are lost, and checks every ``resize_check_s`` seconds whether more workers fit; a change costs the steps
    since the last checkpoint. With None it waits for all workers. ``threads_per_worker`` is the number of
    torch's intra-op threads. ``batch_per_device`` is the largest micro-batch that fits a device; local batch
    and accumulation follow from it and the global batch, for the fewest workers (None: no accumulation).
    ``data_cpus`` are the logical CPUs of each worker's data stream, in addition to its ``cpus_per_worker``.
    ``prefetch`` is the number of batches that are collated ahead.
    The attempt ends if a batch takes longer than ``input_timeout_s``, or if ranks wait in a collective for
    ``collective_timeout_s``, which must be longer, since ranks also wait there for another rank's batch.
    ``tile_cache`` keeps decoded tiles on each node, shared by all training on that node.
    ``trackers`` get the metrics of every phase, in addition to TensorBoard; ``profile_steps`` is the number
    of steps of each phase to profile. ``on_bad_sample`` decides about a draw with damaged tiles: ``fail``
    ends the training, ``skip`` replaces it by another draw of its batch and counts it. A damaged validation
    texture always ends the training. ``record_batches`` writes a hash of every sample after augmentation,
    which costs time, to prove that two runs had the same samples.
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
    def _check_min_workers(self) -> Self:
        if self.fewest_workers > self.workers:
            raise ValueError(
                f"min_workers: got {self.min_workers}; expected at most workers, {self.workers}. "
                f"Use {self.workers} or less."
            )
        return self

    @model_validator(mode="after")
    def _check_timeouts(self) -> Self:
        if self.collective_timeout_s <= self.input_timeout_s:
            raise ValueError(
                f"collective_timeout_s: got {self.collective_timeout_s}; expected more than input_timeout_s, "
                f"{self.input_timeout_s}, since ranks wait in a collective while another waits for input. "
                f"Use {self.input_timeout_s + 60} or more."
            )
        return self

    @property
    def fewest_workers(self) -> int:
        """The smallest number of workers with which training continues."""
        return self.workers if self.min_workers is None else self.min_workers

    def at_fewest(self) -> RuntimeSpec:
        """Return the spec with exactly the fewest workers, which have the largest local batch."""
        return self.model_copy(update={"workers": self.fewest_workers, "min_workers": None})

    @property
    def cpus_of_worker(self) -> float:
        """CPUs of one worker, including its data stream."""
        return self.cpus_per_worker + self.data_cpus

    @property
    def logical_cpus(self) -> float:
        """CPUs of all workers, including their data streams."""
        return self.workers * self.cpus_of_worker

    def micro_batches(self, global_batch: int) -> int:
        """Return the number of micro-batches per step with which each fits ``batch_per_device``.

        Elastic training keeps this number when the number of workers changes, since it affects the result.
        """
        local = -(-global_batch // self.fewest_workers)
        return 1 if self.batch_per_device is None else -(-local // self.batch_per_device)


class Selection(Spec):
    """The validation metric that chooses the best checkpoint of a phase."""

    metric: str
    mode: Literal["min", "max"]

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the metric as a score (larger is better, NaN is worst); raises ConfigError if missing."""
        if self.metric not in metrics:
            raise ConfigError(
                f"selection.metric: got {self.metric}, which was not measured; expected one of "
                f"{', '.join(sorted(metrics))}. Use one of these."
            )
        value = metrics[self.metric]
        if math.isnan(value):
            return -math.inf
        return value if self.mode == "max" else -value

    def comparable(self, metrics: Mapping[str, float]) -> float:
        """Return the metric as a finite number; the worst float if it was not measured or is NaN.

        Ray stores its record as JSON, which has no infinities.
        """
        value, largest = metrics.get(self.metric, math.nan), sys.float_info.max
        if math.isnan(value):
            return -largest if self.mode == "max" else largest
        return min(max(value, -largest), largest)

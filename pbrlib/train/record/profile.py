"""Profiles single steps: a trace for Perfetto, and on a GPU a memory snapshot.

Profiling does not change the weights that a phase learns.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pbrlib import storage

if TYPE_CHECKING:
    import torch
    from torch.profiler import profile

PROFILE = "profile"
"""Name of the profile's folder in the folder of a phase."""

WARM_UP = 3
"""First steps of an attempt, which are not traced: caches fill, networks compile, allocators grow."""

_ALLOCATIONS = 100_000


class StepProfile:
    """Traces steps of one rank after the warm-up, into ``DIRECTORY/profile``.

    ``rank0-steps-4-13.trace.json.gz`` opens in https://ui.perfetto.dev, ``rank0-steps-4-13.memory.pickle`` in
    https://pytorch.org/memory_viz. If the phase ends earlier, both files have the steps until then.
    """

    def __init__(
        self, directory: Path, *, steps: int, first_step: int, rank: int, device: torch.device
    ) -> None:
        from torch.profiler import ProfilerActivity, profile, schedule

        self._folder, self._rank, self._steps = directory / PROFILE, rank, steps
        self._first, self._seen = first_step + WARM_UP, 0
        self._on_gpu = device.type == "cuda"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._on_gpu else [])]
        self._profiler = profile(
            activities=activities,
            schedule=schedule(wait=WARM_UP - 1, warmup=1, active=steps, repeat=1),
            on_trace_ready=self._write,
            record_shapes=True,
            profile_memory=True,
        )

    def __enter__(self) -> StepProfile:
        self._profiler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._seen < WARM_UP + self._steps:
            self._profiler.stop()

    def step(self) -> None:
        """Advance the profiler after a step; does nothing once the trace is written."""
        if self._seen >= WARM_UP + self._steps:
            return
        self._seen += 1
        if self._seen == WARM_UP and self._on_gpu:
            import torch

            torch.cuda.memory._record_memory_history(max_entries=_ALLOCATIONS)
        self._profiler.step()
        if self._seen == WARM_UP + self._steps:
            self._profiler.stop()

    def _write(self, profiler: profile) -> None:
        last = self._first + self._seen - WARM_UP
        name = f"rank{self._rank}-steps-{self._first + 1}-{last}"
        with tempfile.TemporaryDirectory(prefix="pbr-") as here:
            profiler.export_chrome_trace(f"{here}/{name}.trace.json.gz")
            if self._on_gpu:
                import torch

                torch.cuda.memory._dump_snapshot(f"{here}/{name}.memory.pickle")  # type: ignore[no-untyped-call]
                torch.cuda.memory._record_memory_history(enabled=None)
            for file in sorted(Path(here).iterdir()):
                storage.put_file(file, self._folder / file.name)

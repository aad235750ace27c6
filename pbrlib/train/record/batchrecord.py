"""Records a hash of every sample after augmentation, to prove that two runs trained on the same samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from pbrlib import storage
from pbrlib.data.draws.batch import Batch, sample_hashes


class BatchRecord:
    """Appends ``{step, rank, world, samples: [[id, hash], ...]}`` to ``DIRECTORY/batches-rankN.jsonl``.

    Samples are in the order of their positions in the global batch, so the concatenation over ranks is the
    same for any number of workers. A step that a resumed run repeats has two equal lines. On S3 the lines
    appear when the phase ends.
    """

    def __init__(self, directory: Path, *, rank: int, world: int) -> None:
        self._whose = {"rank": rank, "world": world}
        self._file = storage.open_lines(directory / f"batches-rank{rank}.jsonl")

    def __enter__(self) -> BatchRecord:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, step: int, micro: Sequence[Batch]) -> None:
        """Write one line for this rank's part of a step."""
        samples = [pair for batch in micro for pair in zip(batch.ids, sample_hashes(batch), strict=True)]
        self._file.write(json.dumps({"step": step, **self._whose, "samples": samples}) + "\n")

"""Writes the folder of a model out of a runs directory: weights, what they are, how good, from what.

The folder is written beside and put in its place whole, so a reader sees the old model or the new one; on S3
the old one, none while the new one is sent, or that.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

import torch
from safetensors import SafetensorError

from pbrlib import storage
from pbrlib.curriculum.config.load import dump_yaml
from pbrlib.curriculum.spec import Curriculum
from pbrlib.data.shards.dataset import DataSet
from pbrlib.errors import CheckpointError
from pbrlib.evaluate.evaluationreport import FILE as EVALUATION
from pbrlib.evaluate.evaluationreport import Evaluation
from pbrlib.evaluate.measure import checkpoints_of, evaluate
from pbrlib.inference.chain import Chain
from pbrlib.inference.modelfile import (
    FILE_NAME,
    SUMS,
    ModelFile,
    is_model,
    layout_of,
    missing_files,
    read_model,
)
from pbrlib.inference.trained import Trained, trained_in
from pbrlib.maps import ALBEDO, CLASSES
from pbrlib.models.segformer import Segformer, save_pretrained
from pbrlib.release.card import card
from pbrlib.release.facts import attributions, model_file
from pbrlib.train.checkpoint.players import checked_weights
from pbrlib.train.record.rundirectory import MODEL, FinishedPhase, RunDirectory

UNFINISHED = f".{MODEL}.new"
"""Prefix of the name of a model folder while it is being written."""


@dataclass(frozen=True)
class Release:
    """What ``write_model`` did: the folder of the model, and its evaluation; None where it stood already."""

    folder: Path
    evaluation: Evaluation | None


def write_model(
    runs: Path,
    *,
    curricula: Sequence[Curriculum],
    shards: DataSet,
    device: torch.device,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Release:
    """Makes ``RUNS/model`` of the best networks of some curricula, unless it is of these very ones already.

    What is evaluated are the files of the new folder, as a reader opens them.

    Args:
        runs: Where the curricula are trained to their end.
        curricula: As resolved; a segmentation and an albedo among them.
        shards: What they were trained on; its validation split measures them.
        device: Where the evaluation runs.
        watch: Called with the numbers of measured and of all textures.

    Raises:
        CheckpointError: A phase is not finished, the networks are no whole chain, the folder cannot be
            written, or something else stands in its place.
        DataError: The shard set has no validation texture, or is damaged.
    """
    target = runs / MODEL
    storage.recover_folder(target, last=FILE_NAME)
    phases = {one.name: _all_phases(one, runs) for one in curricula}
    found = trained_in(runs, names=phases)
    if ALBEDO.name not in {one.role for one in found}:
        raise CheckpointError(
            f"{runs}: no trained network for {ALBEDO.name} (found: {', '.join(one.role for one in found)}), "
            "and a model has one. Train that curriculum into the same runs directory first."
        )
    content = model_file(found, shards=shards)
    if is_model(target):
        if _is_of(target, content):
            return Release(target, None)
    elif target.exists():
        raise CheckpointError(f"{target}: the model belongs here, and something else stands. Move it away.")
    with _unfinished(target) as new:
        _write_networks(new, found, content)
        (new / "attributions.csv").write_text(attributions(shards.rows), newline="")
        (new / "curricula").mkdir()
        for curriculum in curricula:
            (new / "curricula" / f"{curriculum.name}.yaml").write_text(dump_yaml(curriculum))
        _write_sums(new)
        evaluation = _evaluate(new, shards=shards, device=device, watch=watch)
        text = card(content, curricula=curricula, phases=phases, evaluation=evaluation, rows=shards.rows)
        (new / "README.md").write_text(text)
        _write_sums(new)
        storage.replace_folder(new, target, last=FILE_NAME)
    return Release(target, evaluation)


@contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """Provide a temporary folder for the new model for the block; raises CheckpointError for a full disk."""
    try:
        storage.remove_unfinished(target.parent, prefix=UNFINISHED)
        new = storage.make_unfinished(target.parent, prefix=UNFINISHED)
        try:
            yield new
        finally:
            shutil.rmtree(new, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{target}: the model cannot be written ({error}). Make room there; the same command resumes."
        ) from error


def _all_phases(curriculum: Curriculum, runs: Path) -> dict[str, FinishedPhase]:
    finished = RunDirectory(runs, name=curriculum.name).phases()
    if missing := [name for name in curriculum.phases if name not in finished]:
        raise CheckpointError(
            f"{runs / curriculum.name}: {', '.join(missing)} not finished, and a model is made of whole "
            "curricula. Train it to its end."
        )
    return finished


def _is_of(target: Path, content: ModelFile) -> bool:
    """Whether a whole model, evaluation and card included, stands there of the same networks and data."""
    try:
        known = read_model(target)
        if missing_files(target):
            return False
    except CheckpointError:
        return False
    return (known.networks, known.data) == (content.networks, content.data)


def _write_networks(folder: Path, found: Sequence[Trained], content: ModelFile) -> None:
    (folder / FILE_NAME).write_text(content.model_dump_json(indent=1, exclude_none=True) + "\n")
    for one in found:
        place = folder / content.networks[one.role].file
        layout = layout_of(one.declared)
        match layout:
            case "transformers":
                _, network = one.open(device=torch.device("cpu"))
                assert isinstance(network, Segformer)
                save_pretrained(network, place, labels=CLASSES)
            case "file":
                with checked_weights(one.place) as here:
                    shutil.copyfile(here, place)
            case _:
                assert_never(layout)


def _evaluate(
    folder: Path, *, shards: DataSet, device: torch.device, watch: Callable[[int, int], None]
) -> Evaluation:
    """Measures the folder and writes the figures into it, without the places of this machine."""
    chain = Chain.open(folder, device=device)
    checkpoints = {
        name: {**facts, "checkpoint": Path(facts["checkpoint"]).name}
        for name, facts in checkpoints_of(folder).items()
    }
    found = evaluate(chain, shards=shards, checkpoints=checkpoints, merge=chain.merge, watch=watch)
    num = len(found.about["textures"])
    evaluation = replace(
        found,
        title=f"{num} validation textures of the shard set {shards.fingerprint[:8]}",
        about={**found.about, "data": {"fingerprint": shards.fingerprint}},
    )
    evaluation.write(folder / "evaluation" / EVALUATION)
    return evaluation


def _write_sums(folder: Path) -> None:
    """The sums of every other file, as ``sha256sum --check`` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{storage.sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines))

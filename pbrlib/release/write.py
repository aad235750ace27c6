"""Writes the model folder of a runs directory: weights, declarations, evaluation, curricula and card.

The folder is written under a temporary name and then renamed, so a reader sees either the old or the new
model. On S3, there is no model while the new one is uploaded.
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
    """The folder of the model, and its evaluation; None if the same model existed already."""

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
    """Write ``RUNS/model`` with the best networks of some curricula, unless it has them already.

    The evaluation uses the files of the new folder.

    Args:
        runs: The runs directory, in which all phases of the curricula are finished.
        curricula: The resolved curricula, including a segmentation and an albedo.
        shards: The training data, whose validation split is used for the evaluation.
        device: The device for the evaluation.
        watch: Called with the number of finished and the number of all textures.

    Raises:
        CheckpointError: A phase is not finished, a network of the chain is missing, the folder cannot be
            written, or its path is used otherwise.
        DataError: The shard set has no validation texture, or is damaged.
    """
    target = runs / MODEL
    storage.recover_folder(target, last=FILE_NAME)
    phases = {curriculum.name: _all_phases(curriculum, runs) for curriculum in curricula}
    found = trained_in(runs, names=phases)
    roles = [network.role for network in found]
    if ALBEDO.name not in roles:
        raise CheckpointError(
            f"{runs}: got networks for {', '.join(roles)}; expected one for {ALBEDO.name} too. Train that "
            "curriculum into the same runs directory first."
        )
    content = model_file(found, shards=shards)
    if is_model(target):
        if _is_of(target, content):
            return Release(target, None)
    elif target.exists():
        raise CheckpointError(
            f"{target}: got another file or folder; expected a model folder or none. Move it away."
        )
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
            f"{target}: the model cannot be written ({error}). Free disk space; the same command resumes."
        ) from error


def _all_phases(curriculum: Curriculum, runs: Path) -> dict[str, FinishedPhase]:
    finished = RunDirectory(runs, name=curriculum.name).phases()
    if missing := [name for name in curriculum.phases if name not in finished]:
        raise CheckpointError(
            f"{runs / curriculum.name}: got unfinished phases ({', '.join(missing)}); expected all phases to "
            "be finished. Train them first."
        )
    return finished


def _is_of(target: Path, content: ModelFile) -> bool:
    """Return whether a complete model folder has the same networks and data."""
    try:
        known = read_model(target)
        if missing_files(target):
            return False
    except CheckpointError:
        return False
    return (known.networks, known.data) == (content.networks, content.data)


def _write_networks(folder: Path, found: Sequence[Trained], content: ModelFile) -> None:
    (folder / FILE_NAME).write_text(content.model_dump_json(indent=1, exclude_none=True) + "\n")
    for trained in found:
        place = folder / content.networks[trained.role].file
        layout = layout_of(trained.declared)
        match layout:
            case "transformers":
                _, network = trained.open(device=torch.device("cpu"))
                assert isinstance(network, Segformer)
                save_pretrained(network, place, labels=CLASSES)
            case "file":
                with checked_weights(trained.place) as here:
                    shutil.copyfile(here, place)
            case _:
                assert_never(layout)


def _evaluate(
    folder: Path, *, shards: DataSet, device: torch.device, watch: Callable[[int, int], None]
) -> Evaluation:
    """Evaluate the model folder and write the evaluation into it, without paths of this machine."""
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
    """Write the SHA-256 sums of all other files, in the format of ``sha256sum --check``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{storage.sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / SUMS).write_text("".join(lines))

"""Reads ``model.json``, which describes a model folder, and verifies the checksums of the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, assert_never

from pydantic import StringConstraints, ValidationError

from pbrlib import storage
from pbrlib.errors import CheckpointError
from pbrlib.maps import CLASSES
from pbrlib.models.modelspec import SegformerSpec
from pbrlib.models.roles import NetworkDeclaration
from pbrlib.spec import Spec

FILE_NAME = "model.json"
SUMS = "SHA256SUMS"
FORMAT_VERSION: Final = 1

TRANSFORMERS_FILES = ("config.json", "model.safetensors")
"""The files of a network in transformers' layout."""

Layout: TypeAlias = Literal["file", "transformers"]
"""How a model folder stores weights: a safetensors file, or a folder for transformers' from_pretrained."""

_REMEDY = "Copy the whole folder again from where it came from."


class ReleasedNetwork(Spec):
    """One network of a model folder.

    Attributes:
        network: The network's declaration, enough to rebuild it.
        file: The weights, directly in the model folder: a safetensors file, or a folder in transformers'
            layout (see `layout_of`).
        curriculum: Name of the curriculum that trained the network.
        phase: Last phase of the curriculum.
        fingerprint: Fingerprint of the phase.
        step: Step of the phase's best checkpoint, the source of these weights.
        metrics: Validation metrics of that checkpoint.
        frozen: Fingerprints of the frozen networks that produced its inputs in training.
    """

    network: NetworkDeclaration
    file: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    curriculum: str
    phase: str
    fingerprint: str
    step: int
    metrics: Mapping[str, float]
    frozen: Mapping[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        """The files with the weights, relative to the model folder."""
        layout = layout_of(self.network)
        match layout:
            case "transformers":
                return tuple(f"{self.file}/{name}" for name in TRANSFORMERS_FILES)
            case "file":
                return (self.file,)
            case _:
                assert_never(layout)


def layout_of(declared: NetworkDeclaration) -> Layout:
    """Return how a model folder stores a network: as one file, unless transformers has the architecture."""
    return "transformers" if isinstance(declared.model, SegformerSpec) else "file"


class DataFacts(Spec):
    """The training data: fingerprint of the shard set, and numbers of textures by source and split."""

    fingerprint: str
    textures: Mapping[str, Mapping[str, int]]


class ModelFile(Spec):
    """The content of ``model.json``.

    Attributes:
        conventions: Conventions of inputs and outputs: maps, ranges, colour spaces, classes, normalisation.
        networks: The networks by role.
        data: The training data.
        versions: Versions of the libraries that wrote the model.
    """

    format_version: Literal[1] = FORMAT_VERSION
    conventions: Mapping[str, Any]
    networks: Mapping[str, ReleasedNetwork]
    data: DataFacts
    versions: Mapping[str, str]


def is_model(folder: Path) -> bool:
    """Return whether a folder is a model folder (and not a runs directory)."""
    return (folder / FILE_NAME).is_file()


def read_model(folder: Path) -> ModelFile:
    """Read the description of a model folder and verify the checksums of all weights.

    Raises CheckpointError if ``model.json`` cannot be read, has another format or other classes, or if
    weights are missing or differ from ``SHA256SUMS``.
    """
    model = _read_file(folder / FILE_NAME)
    if model.conventions.get("classes") != list(CLASSES):
        raise CheckpointError(
            f"{folder / FILE_NAME}: conventions.classes: got other classes; expected {', '.join(CLASSES)}. "
            "Use the version of pbr that wrote it."
        )
    check_sums(folder, [name for network in model.networks.values() for name in network.files])
    return model


def missing_files(folder: Path) -> list[str]:
    """Return the files in ``SHA256SUMS`` that are missing in a model folder, including the evaluation's."""
    return [name for name in _read_sums(folder / SUMS) if not (folder / name).is_file()]


def check_sums(folder: Path, names: list[str]) -> None:
    """Raise CheckpointError unless the checksum of each file equals that in ``SHA256SUMS``."""
    sums = _read_sums(folder / SUMS)
    for name in names:
        if name not in sums:
            raise CheckpointError(
                f"{folder / SUMS}: got no line for {name}; expected its checksum. {_REMEDY}"
            )
        try:
            found = storage.sha256(folder / name)
        except OSError as error:
            raise CheckpointError(
                f"{folder / name}: cannot be read ({error.strerror or error}). {_REMEDY}"
            ) from error
        if found != sums[name]:
            raise CheckpointError(f"{folder / name}: got another checksum than the one in {SUMS}. {_REMEDY}")


def _read_file(path: Path) -> ModelFile:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}). {_REMEDY}") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {found!r}, this version of pbr reads {FORMAT_VERSION}. "
            "Use the version of pbr that wrote it."
        )
    try:
        return ModelFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: {where}: {first['msg']}. {_REMEDY}") from error


def _read_sums(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}). {_REMEDY}") from error
    pairs = (line.partition("  ") for line in lines)
    return {name: digest for digest, _, name in pairs}

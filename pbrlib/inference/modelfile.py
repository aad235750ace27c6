"""The file that says what a model folder holds, ``model.json``, and the check that its weights are whole."""

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
"""What lies in the folder of a network in transformers' layout."""

Layout: TypeAlias = Literal["file", "transformers"]
"""How weights lie in a model folder: a safetensors file of our names, or a folder that transformers opens."""

_REMEDY = "Copy the whole folder again from where it came from."


class ReleasedNetwork(Spec):
    """One network of a model folder.

    Attributes:
        network: Its declaration, enough to rebuild it.
        file: Its weights, directly in the model folder: a safetensors file, or a folder in transformers'
            layout, as `layout_of` says.
        curriculum: The name of what trained it.
        phase: The last phase of that.
        fingerprint: Of the phase.
        step: Of the phase's best checkpoint, which these weights are.
        metrics: Its validation figures.
        frozen: Fingerprints of the networks that it was trained behind.
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
        """Every file that holds it, named below the model folder."""
        layout = layout_of(self.network)
        match layout:
            case "transformers":
                return tuple(f"{self.file}/{name}" for name in TRANSFORMERS_FILES)
            case "file":
                return (self.file,)
            case _:
                assert_never(layout)


def layout_of(declared: NetworkDeclaration) -> Layout:
    """How the weights of a network lie in a model folder: as a file, unless transformers knows the kind."""
    return "transformers" if isinstance(declared.model, SegformerSpec) else "file"


class DataFacts(Spec):
    """What the networks were trained on: a shard set by its fingerprint, textures by source and split."""

    fingerprint: str
    textures: Mapping[str, Mapping[str, int]]


class ModelFile(Spec):
    """The content of ``model.json``.

    Attributes:
        conventions: What goes in and comes out: maps, ranges, colour spaces, classes, normalisation.
        networks: Those of the model by role.
        data: What they were trained on.
        versions: The libraries that wrote it.
    """

    format_version: Literal[1] = FORMAT_VERSION
    conventions: Mapping[str, Any]
    networks: Mapping[str, ReleasedNetwork]
    data: DataFacts
    versions: Mapping[str, str]


def is_model(folder: Path) -> bool:
    """Whether a folder is a model, not a runs directory."""
    return (folder / FILE_NAME).is_file()


def read_model(folder: Path) -> ModelFile:
    """What a model folder holds, once the sums of all its weights are right.

    Raises CheckpointError when ``model.json`` is no such file, of another format or other classes, or when
    weights are missing or not those that ``SHA256SUMS`` names.
    """
    model = _read_file(folder / FILE_NAME)
    if model.conventions.get("classes") != list(CLASSES):
        raise CheckpointError(
            f"{folder / FILE_NAME}: conventions.classes are not {', '.join(CLASSES)}, those of this program. "
            "Use the version of pbr that wrote it."
        )
    check_sums(folder, [name for network in model.networks.values() for name in network.files])
    return model


def missing_files(folder: Path) -> list[str]:
    """The files that ``SHA256SUMS`` of a model folder names and that are not there, evaluation included."""
    return [name for name in _read_sums(folder / SUMS) if not (folder / name).is_file()]


def check_sums(folder: Path, names: list[str]) -> None:
    """Raises CheckpointError unless each of these files is the one that ``SHA256SUMS`` names."""
    sums = _read_sums(folder / SUMS)
    for name in names:
        if name not in sums:
            raise CheckpointError(f"{folder / SUMS}: has no line for {name}. {_REMEDY}")
        try:
            found = storage.sha256(folder / name)
        except OSError as error:
            raise CheckpointError(
                f"{folder / name}: cannot be read ({error.strerror or error}). {_REMEDY}"
            ) from error
        if found != sums[name]:
            raise CheckpointError(f"{folder / name}: not the file that {SUMS} names. {_REMEDY}")


def _read_file(path: Path) -> ModelFile:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}). {_REMEDY}") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: format version {found!r}, this program reads {FORMAT_VERSION}. "
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

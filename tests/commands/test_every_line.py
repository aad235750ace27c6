"""Every documented command line runs to its end, with generated data on a machine without a GPU.

``make test-commands`` runs this file in one process: the lines build on one another, as they do for a user.
A line runs as it stands, with its placeholders filled in, except for the changes in ``TWINS`` and ``ADDED``.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.commands.documented import ABBREVIATED, documented
from tests.conftest import S3_CREDENTIALS
from tests.ray.head import Head, head_node
from tests.s3_server import FaultyServer

LINE_S = 1500
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(LINE_S + 120)]

ROOT = Path(__file__).parents[2]
LADDER_SOURCES = (
    "generated:count=35,size=128,seed=1,name=skyrim,old=true",
    "generated:count=35,size=128,seed=2,name=matsynth",
)

TWINS = {
    r"configs/rev7/ladder\.yaml": ("configs/smoke/ladder.yaml", "Revision 7.0 trains for days on GPUs"),
    r"configs/rev7/(\w+\.yaml)": (r"configs/smoke/rev7/\1", "Revision 7.0 trains for days on GPUs"),
    r"configs/search/(\w+\.yaml)": (r"configs/search/smoke/\1", "forty trials of Revision 7.0"),
    r"configs/runtime/(one|four|eight)_gpu\.yaml": ("configs/runtime/cpu.yaml", "needs GPUs"),
    r"CURRICULUM": ("configs/smoke/rev7/segformer.yaml", "stands for any curriculum"),
    r"generated:count=140,size=512,seed=5": ("generated:count=35,size=128,seed=5", "takes minutes"),
    r"1200": ("1", "the small phases have fewer steps"),
}
"""What a word of a line becomes where the real thing needs other hardware or hours, and the reason.

``pbr plan`` keeps its words: ``test_shipped`` plans every curriculum with every runtime file.
"""

ADDED = {
    "debug-step": (
        {"--phase": "A1", "--step": "1"},
        "no step of the trained runs had a loss that is not finite",
    ),
    "rehearse": ({"--phases": "S0..S1"}, "it starts every phase twice, in a fit of its own: half an hour"),
    "train MINE": ({"--phases": "S0"}, "one phase shows which sources it draws from"),
}
"""Options that a line gets as well, and the reason."""

SHORTER = {
    "configs/search/smoke": (r"num_trials: \d+", "num_trials: 2"),
    "configs/real": (r"steps_per_epoch: \d+", "steps_per_epoch: 4"),
}
"""Folders whose files are cut in the copy that the lines use: two trials a sweep, four steps an epoch."""

ORDER = (
    *("doctor", "prepare", "shards inspect", "plan", "rehearse"),
    *("train segformer", "train albedo", "train network", "train ladder", "tune", "tune apply"),
    *("evaluate", "debug-step", "runs", "runs show", "report", "convert", "runs prune"),
)
"""A line comes after those that write what it reads."""


@dataclass(frozen=True)
class Line:
    """A documented line as it is run: ``before`` is empty or ``submit [OPTIONS] --``."""

    before: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join((*self.before, *self.words))

    @property
    def on_s3(self) -> bool:
        return "s3://" in self.text

    @property
    def command(self) -> str:
        """The command, with its subcommand or what it trains."""
        first, second = self.words[0], self.words[1] if len(self.words) > 1 else ""
        if first == "train":
            stem = Path(second).stem
            if stem in ("ladder", "demo"):
                return "train ladder" if "--phases" not in self.words else "train network"
            return f"train {stem}" if stem in ("segformer", "albedo") else "train network"
        return f"{first} {second}" if f"{first} {second}" in ORDER else first

    @property
    def set(self) -> str:
        """The set that the line needs, by what it trains."""
        if "--source" in self.words:
            return "materials"
        if "configs/real" in self.text or "MATERIALS" in self.words:
            return "real"
        if "SOURCE..." in self.words or re.search(r"configs/(search/)?smoke/(?!ladder|rev7)", self.text):
            return "generated"
        return "ladder"

    @property
    def added(self) -> tuple[str, ...]:
        key = "train MINE" if {"MINE", "skyrim=MINE"} & set(self.words) else self.command
        options, _ = ADDED.get(key, ({}, ""))
        return tuple(word for option in options.items() if option[0] not in self.words for word in option)

    @property
    def order(self) -> tuple[int, int, bool, str]:
        where = 2 if self.on_s3 else int(bool(self.before))
        phases = self.words[self.words.index("--phases") + 1] if "--phases" in self.words else ""
        return (where, ORDER.index(self.command), not phases, phases)


def lines() -> list[Line]:
    """Return all documented lines, each once, in the order in which they run."""
    found = dict.fromkeys(
        Line(one.words[: len(one.words) - len(one.own)], tuple(_twins(one.own))) for one in documented()
    )
    return sorted(found, key=lambda line: line.order)


def _twins(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        for pattern, (twin, _) in TWINS.items():
            if words[0] != "plan" and re.fullmatch(pattern, word):
                word = re.sub(pattern, twin, word)
                break
        # The small searches are of the small networks of the demo.
        yield word.replace("smoke/rev7/", "smoke/") if words[:2] == ("tune", "apply") else word


class World:
    """A checkout, a place for data and runs, a cluster and a bucket."""

    def __init__(self, folder: Path, *, head: Head, s3: FaultyServer) -> None:
        self.folder, self.head = folder, head
        self.bucket = f"pbr-{secrets.token_hex(4)}"
        self.environment = {
            **os.environ,
            **{name: value for name, value in head.environment.items() if not name.startswith("RAY_")},
            **S3_CREDENTIALS,
            "AWS_ENDPOINT_URL": s3.url,
            "PYTHONPATH": str(folder),
        }

    def pbr(self, *words: str, on: Head | None = None) -> str:
        """Run ``pbr`` in the checkout, require exit code 0, and return what it printed."""
        cluster = {} if on is None else {**on.environment, "RAY_API_SERVER_ADDRESS": on.dashboard}
        done = subprocess.run(
            [sys.executable, "-m", "ray_jobs", *words],
            cwd=self.folder,
            env={**self.environment, **cluster, "PYTHONPATH": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LINE_S,
        )
        assert done.returncode == 0, f"pbr {' '.join(words)}\n{done.stdout}"
        assert "Traceback" not in done.stdout, done.stdout
        return done.stdout

    def run(self, line: Line) -> str:
        """Run a documented line."""
        words = [word for number in range(len(line.words)) for word in self.filled(line, number)]
        before = [self.head.dashboard if word == "URL" else word for word in line.before]
        return self.pbr(*before, *words, *line.added, on=self.head if before else None)

    def filled(self, line: Line, number: int) -> tuple[str, ...]:
        """The words for word ``number`` of a line, with its placeholder filled in."""
        word = line.words[number]
        if word == ABBREVIATED:
            held_out = line.words[number - 1] == "--hold-out"
            return ("metal/hammered",) if held_out else (*LADDER_SOURCES, "--val-share", "0.2")
        if word == "SWEEP":
            of = line.words[1] if line.words[1] != "apply" else "s1_focal_gamma"
            return (f"sweeps/{Path(of).stem}",)
        scaled = any(one.startswith("batch_scale=") for one in line.words)
        of_mine = "skyrim=MINE" in line.words
        runs = f"runs/{'scaled' if scaled else 'mine' if of_mine else 's3' if line.on_s3 else line.set}"
        places = {
            r"SOURCE\.\.\.": "generated:count=70,size=128,seed=1",
            r"MATERIALS": "baked/materials",
            r"Skyrim/Data": "baked",
            r"OUTPUT": f"converted/{'s3' if line.on_s3 else 'local'}",
            r"OLD": "shards/matsynth",
            r"((?:skyrim=)?)MINE": rf"\1shards/{'mine' if line.set == 'ladder' else 'materials'}",
            r"SHARDS": f"shards/{line.set}",
            r"(?:RUNS|DIR)(/.*)?": rf"{runs}\1",
            r"s3://bucket/(.*)": rf"s3://{self.bucket}/\1",
            r"/mnt/pbr/smoke-shards": f"{self.folder}/shards/job",
            r"(?:/mnt/pbr|/data)/shards": f"{self.folder}/shards/ladder",
            r"(?:/mnt/pbr|/data)/(smoke|runs)": rf"{self.folder}/jobs/\1",
        }
        for pattern, place in places.items():
            if found := re.fullmatch(pattern, word):
                return (found.expand(place),)
        return (word,)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, s3: FaultyServer) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("checkout")
    for package in ("pbrlib", "ray_jobs", "configs"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (".rayignore", "cluster.yaml"):
        shutil.copy(ROOT / file, folder)
    for place, (pattern, shorter) in SHORTER.items():
        for file in (folder / place).glob("*.yaml"):
            file.write_text(re.sub(pattern, shorter, file.read_text()))
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in {"AWS_ENDPOINT_URL": s3.url, **S3_CREDENTIALS}.items():
            patch.setenv(variable, value)
        with head_node(num_cpus=4) as head:
            world = World(folder, head=head, s3=s3)
            _make_inputs(world)
            yield world


def _make_inputs(world: World) -> None:
    """Create what a user has before the first line: a bucket, materials, a game, and sets of some sources."""
    import boto3

    boto3.client("s3").create_bucket(Bucket=world.bucket)
    world.pbr("bake", "generated:count=14,size=128,seed=3", "--out", "baked")
    manifest = world.folder / "baked/materials/manifest.json"
    text = manifest.read_text()
    for folder in [one for one in manifest.parent.iterdir() if one.is_dir()]:
        # The ids differ from those of generated materials, as the ids of scanned ones do.
        text = text.replace(f'"{folder.name}', f'"scanned-{folder.name}')
        folder.rename(folder.with_name(f"scanned-{folder.name}"))
    manifest.write_text(text)
    (world.folder / "shards").mkdir()
    old = "generated:count=35,size=128,seed=4,name=materials,old=true"
    for name, source in {"matsynth": LADDER_SOURCES[1], "mine": old, "materials": old}.items():
        world.pbr("prepare", source, "--val-share", "0.2", "--out", f"shards/{name}")


@pytest.mark.parametrize("line", lines(), ids=lambda line: line.text)
def test_a_documented_line_runs_to_its_end(world: World, line: Line) -> None:
    assert world.run(line).strip()
    for option in {"--out", "--runs", "--contact-sheet"} & set(line.words):
        (place,) = world.filled(line, line.words.index(option) + 1)
        assert place.startswith("s3://") or (world.folder / place).exists(), place


def test_what_is_changed_in_a_line_is_in_some_line() -> None:
    """A twin or an addition that no line needs any more is deleted."""
    words = {word for one in documented() for word in one.own}
    for pattern in TWINS:
        assert any(re.fullmatch(pattern, word) for word in words), pattern
    commands = {line.command for line in lines()} | {"train MINE"}
    assert set(ADDED) <= commands

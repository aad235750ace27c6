"""Collect the command lines of README, docs/, the headers of configs/ and the files for clusters."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

IMAGE = "/home/ray/pbr/"
"""Where the image of the cluster has the checkout."""

ABBREVIATED = "..."
"""Stands for words that a line leaves out."""


@dataclass(frozen=True)
class Documented:
    """A command line, and where it stands."""

    place: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The line as it could be typed."""
        return shlex.join(self.words)

    @property
    def own(self) -> tuple[str, ...]:
        """The words of the command that a cluster is handed; all of them where it is none of `pbr submit`."""
        return self.words[self.words.index("--") + 1 :] if "--" in self.words else self.words


def documented() -> list[Documented]:
    """The command lines of all files, each once a file, without ``pbr``."""
    found = [
        *(one for path in (Path("README.md"), *sorted(Path("docs").glob("*.md"))) for one in _of_page(path)),
        *(one for path in sorted(Path("configs").rglob("*.yaml")) for one in _of_header(path)),
        *_of_header(Path("cluster.yaml")),
        *_of_job(Path("configs/kuberay/rayjob.yaml")),
    ]
    return list(dict.fromkeys(found))


def _of_page(path: Path) -> Iterator[Documented]:
    """Yield the lines in the code blocks of a page."""
    for block in re.findall(r"^ *```[a-z]*\n(.*?)^ *```", path.read_text(), re.DOTALL | re.MULTILINE):
        yield from _of_lines(block, place=str(path))


def _of_header(path: Path) -> Iterator[Documented]:
    """Yield the lines in the comments of a file."""
    comments = [line.lstrip(" #") for line in path.read_text().splitlines() if line.lstrip().startswith("#")]
    yield from _of_lines("\n".join(comments), place=str(path))


def _of_job(path: Path) -> Iterator[Documented]:
    """The entry point of a RayJob."""
    job = next(iter(yaml.safe_load_all(path.read_text())))
    yield from _of_lines(" ".join(job["spec"]["entrypoint"].split()), place=str(path))


def _of_lines(text: str, *, place: str) -> Iterator[Documented]:
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        for part in re.split(r"; | && ", line):
            if match := re.match(r"(?:\$ )?(?:\.venv/bin/)?pbr (.*)", part.strip()):
                words = shlex.split(match[1].replace("[", "").replace("]", ""), comments=True)
                if words:
                    yield Documented(place, tuple(word.removeprefix(IMAGE) for word in words))

"""Search files for tests, and a study in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pbrlib.sweep.searchfile import Search, load_search
from pbrlib.sweep.study import SweepStudy
from tests.conftest import SEGFORMER

GAMMA = "phases.S0.loss.focal.gamma"
MIOU = "val/all/segmentation/miou"


def write_search(folder: Path, *, text: str = SEGFORMER, **changes: Any) -> Path:
    """A curriculum and a search over its focal gamma."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "segformer.yaml").write_text(text)
    spec = {
        "curriculum": "segformer.yaml",
        "phase": "S0",
        "space": {GAMMA: {"kind": "uniform", "low": 0.5, "high": 4.0}},
        "objectives": [{"metric": MIOU, "mode": "max"}],
        "num_trials": 3,
        **changes,
    }
    file = folder / "gamma.yaml"
    file.write_text(
        yaml.safe_dump({key: value for key, value in spec.items() if value is not None}, sort_keys=False)
    )
    return file


def begin(folder: Path, **changes: Any) -> tuple[SweepStudy, Search]:
    search = load_search(write_search(folder, **changes))
    return SweepStudy.begin(folder / "sweep", search, about={"shards": "x"}), search

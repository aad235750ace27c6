"""The hyperparameters of a phase, as TensorBoard shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbrlib.curriculum.check.curriculum import networks_of
from pbrlib.curriculum.config.load import parse_curriculum
from pbrlib.curriculum.describe.tags import tags_of
from pbrlib.train.record.journal import Journal
from tests.curriculum.conftest import SEGFORMER

WANTED = ("phase", "resolution", "model", "mix", "augmentation", "freeze_depth", "optimizer")


def test_the_tags_say_what_distinguishes_a_phase() -> None:
    curriculum = parse_curriculum(SEGFORMER)
    networks = networks_of(curriculum.task)
    first, second = (tags_of(curriculum, name, networks=networks) for name in ("S0", "S1"))
    assert first.keys() >= set(WANTED)
    assert (first["resolution"], first["model"], first["mix"]) == (64, "segformer custom", "generated 1")
    assert (first["freeze_depth"], first["frozen"], second["freeze_depth"]) == (0, "nothing", 1)
    assert second["frozen"] == "encoder.stages.0"
    assert second["starts_from"] == "S0"
    rates = {name: rate for name, rate in second.items() if name.startswith("rate/")}
    assert rates["rate/base.stages.1"] == pytest.approx(1e-4 * 0.9**2)


def test_tensorboard_shows_them_as_hyperparameters(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    with Journal(tmp_path, first_step=0) as journal:
        journal.tag({"phase": "S0", "resolution": 64, "rate/base": 1e-3}, metric="val/all/l1")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = events.PluginTagToContent("hparams")
    started = HParamsPluginData.FromString(found["_hparams_/session_start_info"]).session_start_info
    assert started.hparams["phase"].string_value == "S0"
    assert started.hparams["resolution"].number_value == 64
    ended = HParamsPluginData.FromString(found["_hparams_/session_end_info"]).session_end_info
    assert ended.status == 1, "success, since nothing went wrong"

"""A phase of several players, declared: its form, its mistakes, its rates, and what is said of it.

No task of today has several, so the tests give albedo two: its network under the names of a generator and a
critic.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from pbrlib.curriculum.check.curriculum import check, networks_of
from pbrlib.curriculum.check.donors import require_lpips_weights
from pbrlib.curriculum.config.load import dump_yaml, load_curriculum, parse_curriculum
from pbrlib.curriculum.describe.description import describe
from pbrlib.curriculum.describe.tags import tags_of
from pbrlib.curriculum.fingerprint import phase_fingerprints
from pbrlib.curriculum.scale import scaled
from pbrlib.curriculum.spec import Curriculum
from pbrlib.errors import ConfigError
from pbrlib.sweep.amend import amend
from pbrlib.tasks.taskspec import TaskSpec
from pbrlib.train.runtimespec import RuntimeSpec
from tests.conftest import ALBEDO
from tests.curriculum.describe.test_description import shown

FLAT = """
    optimizer: {lr: 1.0e-3}
    schedule: {kind: cosine, final: 1.0e-4}
    loss: {l1: 1.0, ms_ssim: 0.15}
"""

SEVERAL = """
    players:
      generator:
        optimizer: {lr: 1.0e-3}
        schedule: {kind: cosine, final: 1.0e-4}
        loss: {l1: 1.0}
      critic:
        start_epoch: 1
        grad_clip: 0.5
        optimizer: {lr: 2.0e-3, weight_decay: 0.0}
        schedule: {kind: cosine, final: 1.0e-5}
        loss: {ms_ssim: 0.15}
"""

TEXT = ALBEDO.replace(FLAT, SEVERAL)


def two(task: TaskSpec) -> dict[str, nn.Module]:
    """The network of the task under two names."""
    (network,) = networks_of(task).values()
    return {"generator": network, "critic": network}


@pytest.fixture
def of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("check.curriculum", "describe.description"):
        monkeypatch.setattr(f"pbrlib.curriculum.{place}.networks_of", two)


def changed(old: str, new: str, *, text: str = TEXT) -> Curriculum:
    assert old in text
    return parse_curriculum(text.replace(old, new))


def refusal(curriculum: Curriculum) -> str:
    with pytest.raises(ConfigError) as caught:
        check(curriculum, place="x.yaml")
    return str(caught.value)


def test_both_forms_say_the_same_of_a_player() -> None:
    (flat,) = parse_curriculum(ALBEDO).phases["A1"].by_player()
    generator, critic = parse_curriculum(TEXT).phases["A1"].by_player()
    assert (flat.name, flat.within("phases.A1"), flat.name_in(["albedo"])) == (None, "phases.A1", "albedo")
    assert generator.within("phases.A1") == "phases.A1.players.generator"
    assert (generator.spec.optimizer, generator.spec.schedule) == (flat.spec.optimizer, flat.spec.schedule)
    assert (generator.grad_clip, critic.grad_clip) == (1.0, 0.5), "the phase's, and its own"
    assert (generator.spec.start_epoch, critic.spec.start_epoch) == (0, 1)


def test_the_resolved_file_has_the_form_that_was_written() -> None:
    for text in (ALBEDO, TEXT):
        resolved = dump_yaml(parse_curriculum(text))
        assert ("players:" in resolved) == (text is TEXT)
        assert parse_curriculum(resolved) == parse_curriculum(text)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (FLAT, "\n", "phases.A1.loss: missing; expected optimizer, schedule and loss, or players."),
        (FLAT, SEVERAL + "    loss: {l1: 1.0}\n", "phases.A1.loss: got loss and players"),
        (FLAT, "\n    players: {}\n", "phases.A1.players: got {}; expected at least 1."),
        (FLAT, SEVERAL.replace("l1:", "l2:"), "phases.A1.players.generator.loss.l2: unknown key"),
        (FLAT, SEVERAL.replace("critic:", "Critic!:"), "phases.A1.players.Critic!"),
        (
            FLAT,
            SEVERAL.replace("kind: cosine", "kind: cosin"),
            "phases.A1.players.critic.schedule: got kind: cosin;",
        ),
    ],
)
def test_a_phase_has_one_of_the_two_forms_whole(old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(old, new, text=ALBEDO)
    assert words in str(caught.value)


def test_a_task_of_one_player_takes_no_players() -> None:
    message = refusal(parse_curriculum(TEXT))
    assert "phases.A1.players: got generator, critic; expected none, since albedo has one player." in message


@pytest.mark.usefixtures("of_two")
def test_the_players_are_those_of_the_task() -> None:
    check(parse_curriculum(TEXT), place="x.yaml")
    assert "phases.A1: got one player; expected generator, critic" in refusal(parse_curriculum(ALBEDO))
    message = refusal(changed("critic:", "critik:"))
    assert (
        "phases.A1.players.critik: got critik; expected a player of albedo. Did you mean `critic`?" in message
    )
    assert "phases.A1.players: got no critic; expected generator, critic." in message


@pytest.mark.usefixtures("of_two")
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "loss: {ms_ssim: 0.15}",
            "loss: {dice: 1.0}",
            "phases.A1.players.critic.loss.dice: got dice for albedo",
        ),
        (
            "weight_decay: 0.0}",
            "groups: {stem: {match: 'x.*', lr: 1e-4}}}",
            "phases.A1.players.critic.optimizer.groups.stem.match: 'x.*' matches no parameter",
        ),
        ("final: 1.0e-5", "final: 1.0e-1", "phases.A1.players.critic.schedule: got an end rate of"),
        ("start_epoch: 1", "start_epoch: 2", "phases.A1.players.critic.start_epoch: got 2 in a phase of 2"),
        (
            "      generator:\n",
            "      generator:\n        start_epoch: 1\n",
            "phases.A1.players: got a start_epoch for every player",
        ),
    ],
)
def test_a_mistake_of_a_player_has_its_address(old: str, new: str, words: str) -> None:
    assert words in refusal(changed(old, new))


def test_missing_weights_of_a_player_s_loss_are_named() -> None:
    curriculum = changed("ms_ssim: 0.15", "lpips: {weight: 0.1, backbone: none.pth}")
    with pytest.raises(ConfigError, match=r"phases\.A1\.players\.critic\.loss\.lpips\.backbone: got "):
        require_lpips_weights(curriculum, place="x.yaml", running=["A1"])


def test_overrides_and_amendments_reach_into_players(tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(TEXT)
    curriculum = load_curriculum(file, overrides=["phases.A1.players.generator.loss.l1=0.5"])
    generator, _ = curriculum.phases["A1"].by_player()
    assert generator.spec.loss.l1 is not None and generator.spec.loss.l1.weight == 0.5
    amend(file, {"phases.A1.players.critic.optimizer.lr": 3e-3}, origin="trial 7")
    _, critic = load_curriculum(file).phases["A1"].by_player()
    assert critic.spec.optimizer.lr == 3e-3


def test_a_batch_scale_moves_the_rates_of_every_player() -> None:
    scale = "task:\n  kind: albedo"
    curriculum = changed(scale, f"batch_scale: {{factor: 4, learning_rate: sqrt}}\n{scale}")
    phase = scaled(curriculum).phases["A1"]
    rates = {player.name: player.spec.optimizer.lr for player in phase.by_player()}
    assert phase.batch == 24 and rates == {"generator": 2e-3, "critic": 4e-3}
    assert phase.optimizer is None, "the form stays"


def test_every_part_of_a_player_counts_in_the_fingerprint() -> None:
    def print_of(curriculum: Curriculum) -> str:
        given = {"shards": "s", "precision": "fp32", "micro_batches": {"A1": 1}}
        return phase_fingerprints(curriculum, donors={"segformer": "d"}, **given)["A1"]  # type: ignore[arg-type]

    changes = (
        ("start_epoch: 1", ""),
        ("grad_clip: 0.5", "grad_clip: 0.6"),
        ("0.15", "0.2"),
        ("critic", "judge"),
    )
    prints = {print_of(parse_curriculum(TEXT)), *(print_of(changed(*change)) for change in changes)}
    assert len(prints) == 5


@pytest.mark.usefixtures("of_two")
def test_a_plan_shows_what_each_player_learns_with() -> None:
    curriculum = parse_curriculum(TEXT)
    described = describe(curriculum, runtime=RuntimeSpec())
    players = described["phases"]["A1"]["players"]
    assert list(players) == ["generator", "critic"]
    assert players["critic"]["start_epoch"] == 1 and players["critic"]["grad_clip"] == 0.5
    (base,) = players["critic"]["groups"]
    assert base["rates"] == {"first": 2e-3, "peak": 2e-3, "last": pytest.approx(1e-5)}
    text = " ".join(shown(described).split())
    for words in ("player generator", "player critic, from epoch 1", "loss 0.15 (1 - MS-SSIM)", "2.00e-03"):
        assert words in text


def test_the_tags_of_several_players_name_them() -> None:
    curriculum = parse_curriculum(TEXT)
    tags = tags_of(curriculum, "A1", networks=two(curriculum.task))
    assert (tags["loss/generator"], tags["loss/critic"]) == ("1 L1", "0.15 (1 - MS-SSIM)")
    assert (tags["rate/critic/base"], tags["start_epoch/critic"]) == (2e-3, 1)
    assert "loss" not in tags and "rate/base" not in tags

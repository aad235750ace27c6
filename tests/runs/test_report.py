"""A run as one page: whole, well-formed, and deaf to the network."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from pbrlib.curriculum.config.load import dump_yaml, parse_curriculum
from pbrlib.curriculum.run import carry_out, launch_local, resolve
from pbrlib.data.shards.reader import ShardSet
from pbrlib.evaluate.measure import checkpoints_of, evaluate
from pbrlib.inference.chain import Chain
from pbrlib.maps import CLASS_COLOURS, CLASSES
from pbrlib.runs.chart import MAX_POINTS, MAX_READINGS, line_chart
from pbrlib.runs.htmlreport import page
from pbrlib.runs.record import Run
from pbrlib.train.runtimespec import RuntimeSpec
from ray_jobs.cli import main
from tests.conftest import ALBEDO, SEGFORMER
from tests.runs.trees import NOW, albedo_of, declare, finish, phase, write_ladder

VOID = {"meta", "img", "br"}
REFERENCE = re.compile(
    r"""(?:https?:|//|url\(|@import|<script|<link|<iframe|\bsrc="(?!data:)|\bhref="(?!#))"""
)


class Page(HTMLParser):
    """Checks that elements close in the order in which they opened, and collects text and pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.images: list[bytes] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            source = dict(attrs)["src"] or ""
            self.images.append(base64.b64decode(source.partition("base64,")[2], validate=True))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def reported(shard_folder: Path, trained_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's runs with their curricula and an evaluation beside them."""
    runs = tmp_path_factory.mktemp("reported") / "runs"
    shutil.copytree(trained_runs, runs)
    for text in (SEGFORMER, ALBEDO):
        curriculum = parse_curriculum(text)
        (runs / curriculum.name / "curriculum.yaml").write_text(dump_yaml(curriculum))
    import torch

    chain = Chain.open(runs, device=torch.device("cpu"))
    found = evaluate(
        chain, shards=ShardSet.open(shard_folder), checkpoints=checkpoints_of(runs), merge=chain.merge
    )
    found.write(runs / "evaluation" / "evaluation.json")
    return runs


def report(run: Path) -> str:
    result = CliRunner().invoke(main, ["report", str(run)])
    assert result.exit_code == 0, result.output
    return (run / "report.html").read_text(encoding="utf-8")


def figures(text: str) -> Iterator[ET.Element]:
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        yield ET.fromstring(svg)


def test_the_page_of_a_segmentation_holds_everything_and_asks_for_nothing(reported: Path) -> None:
    text = report(reported / "segformer")
    page = Page(text)
    assert REFERENCE.findall(re.sub(r"base64,[^\"]*", "", text)) == []
    assert "default-src 'none'" in text
    for words in (
        "IoU by class at the best checkpoint",
        "Confusion matrix",
        "7 validation textures of",
        "0.6 CE(w_c) + 0.3 Focal",
        "libraries.torch",
        "input wait",
        "step 2, val/all/segmentation/miou",
        "gradient norm before clipping",
        "validation loss by source",
    ):
        assert words in page.text, words
    assert [image[:2] for image in page.images] == [b"\xff\xd8"]
    assert len(list(figures(text))) >= 4


def test_colours_of_classes_are_shown_and_groups_of_one_rate_are_drawn_once(reported: Path) -> None:
    segmentation, albedo = (report(reported / name) for name in ("segformer", "albedo"))
    for name, colour in zip(CLASSES, CLASS_COLOURS, strict=True):
        assert f'<i style="background:rgb{colour}"></i>{name}</span>' in segmentation
    assert "background:rgb" not in albedo
    assert "</i>base</span>" in segmentation
    assert "no_decay</span>" not in segmentation


def test_the_page_of_a_map_shows_every_validation_and_the_evaluation_of_its_map(reported: Path) -> None:
    page = Page(report(reported / "albedo"))
    assert len(page.images) == 2
    assert "rmse" in page.text
    assert "Confusion matrix" not in page.text
    assert "0.15 (1 - MS-SSIM)" in page.text


def test_verdicts_of_older_evaluations_are_shown_in_the_current_words(reported: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(reported, runs)
    (file,) = runs.rglob("evaluation.json")
    content = json.loads(file.read_text())
    for figure in content["maps"]["albedo"].values():
        figure["verdict"] = "ahead of all, unsure"
    file.write_text(json.dumps(content))
    text = Page(report(runs / "albedo")).text
    assert "better on average" in text and "unsure" not in text
    content["maps"]["albedo"]["rmse"]["verdict"] = "a word of a later version"
    file.write_text(json.dumps(content))
    assert "a word of a later version" in Page(report(runs / "albedo")).text


def test_text_of_a_run_is_escaped(reported: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(reported, runs)
    journal = next(runs.glob("albedo/A1-*")) / "metrics.jsonl"
    journal.write_text(journal.read_text().replace("train/l1", "train/<script>alert(1)</script>"))
    (runs / "albedo" / "curriculum.yaml").write_text("name: '<img src=x>'\n")
    text = report(runs / "albedo")
    Page(text)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "<img src=x>" not in text


def test_a_run_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    run = tmp_path / "albedo"
    run.mkdir()
    (run / "curriculum.yaml").write_text(dump_yaml(parse_curriculum(ALBEDO)))
    page = Page(report(run))
    assert "waiting" in page.text
    assert "Run pbr evaluate to write one" in page.text


def test_a_chart_leaves_gaps_and_thins_long_lines() -> None:
    long = [(float(step), float(step % 7)) for step in range(10_000)]
    chart = line_chart("a & b", {"x": long, "y": [(0.0, 1.0), (1.0, float("nan")), (2.0, 3.0)]}, mark=(5, 2))
    (svg,) = figures(chart)
    (line,) = svg.findall("polyline")
    assert len(line.attrib["points"].split()) == MAX_POINTS
    assert len(svg.findall("circle")) == 3, "two lone points and the mark"
    assert len(svg.findall("g")) == MAX_READINGS
    assert "a &amp; b" in chart
    assert line_chart("nothing", {"x": []}) == ""


def test_a_step_under_the_pointer_shows_its_values() -> None:
    line = [(2.0, 0.5), (4.0, float("nan")), (6.0, 0.25)]
    (svg,) = figures(line_chart("loss", {"a<b": line, "other": [(6.0, 0.125), (8.0, 1.0)]}))
    bands = svg.findall("g")
    titles = [band.findtext("title") for band in bands]
    assert titles == ["step 2\na<b: 0.5", "step 6\na<b: 0.25\nother: 0.125", "step 8\nother: 1"]
    rects = [(float(r.attrib["x"]), float(r.attrib["width"])) for band in bands for r in band.findall("rect")]
    for (x, width), (following, _) in itertools.pairwise(rects):
        assert x + width == pytest.approx(following, abs=0.2), "no step of the pointer lies between two bands"


def test_the_axis_of_what_is_never_negative_ends_at_zero() -> None:
    def lowest(*values: float) -> str:
        (svg,) = figures(line_chart("x", {"x": list(enumerate(values))}))
        return svg.findall("text")[0].text or ""

    assert lowest(0.001, 5.0) == "0"
    assert lowest(0.0, 0.0) == "0"
    assert lowest(4.0, 5.0) == "3.95"
    assert lowest(-1.0, 1.0) == "-1.1"


def test_the_environment_of_a_phase_names_versions_and_no_secret(
    shard_set: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
    curriculum = parse_curriculum(SEGFORMER)
    job = resolve(curriculum, "S0", shards=shard_set, runs=tmp_path, runtime=RuntimeSpec(workers=1))
    carry_out(job, launch_local)
    (tmp_path / "segformer" / "curriculum.yaml").write_text(dump_yaml(curriculum))
    text = report(tmp_path / "segformer")
    assert "threads_per_worker" in text
    assert "do-not-tell" not in text
    assert "do-not-tell" not in "".join(p.read_text() for p in tmp_path.rglob("*.json*"))


def test_names_of_folders_are_text_of_the_page(tmp_path: Path) -> None:
    hostile = "<script>alert(1)<img src=x onerror=alert(2)>"
    run = declare(tmp_path, albedo_of("A1"))
    folder = phase(run, "A1", fingerprint="0" * 64, errors={2: 0.5}, age_s=10)
    finish(run, folder, fingerprint="0" * 64, order=("A1",))
    run.rename(tmp_path / hostile)
    text = page(Run.open(tmp_path / hostile), now=NOW)
    assert "<script" not in text and "<img src=x" not in text
    assert hostile in Page(text).text


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    """Two runs of which the ladder trains the one that is later in the alphabet first."""
    runs = tmp_path / "runs"
    for number, name in enumerate(("early", "late")):
        run = declare(runs, albedo_of("A1", "A2", name=name))
        fingerprint = f"{number}" * 64
        folder = phase(run, "A1", fingerprint=fingerprint, errors={2: 0.5, 4: 0.25}, age_s=10)
        finish(run, folder, fingerprint=fingerprint, order=("A1", "A2"))
    write_ladder(runs, state="finished", age_s=10, curriculum="late")
    return runs


def test_a_directory_of_several_runs_has_one_page_with_a_link_to_each(ladder: Path) -> None:
    text = report(ladder)
    page = Page(text)
    order = ["late/A1", "late/A2", "early/A1", "early/A2"]
    assert [page.text.index(name) for name in order] == sorted(page.text.index(name) for name in order)
    links, ids = re.findall(r'href="#([^"]+)"', text), re.findall(r' id="([^"]+)"', text)
    assert set(links) <= set(ids), "every link leads somewhere"
    assert len(ids) == len(set(ids)), "and to one place"
    assert {"run-1", "run-2", "run-1-1", "run-2-1"} <= set(links)
    assert REFERENCE.findall(text) == []
    assert not (ladder / "late" / "report.html").exists()


def test_a_page_names_moments_and_no_age(ladder: Path) -> None:
    for text in (report(ladder), report(ladder / "early")):
        assert " ago" not in Page(text).text
        assert re.search(r"2033-05-1[78] \d\d:\d\d:\d\d[+-]\d\d:\d\d", text), "when the phase wrote last"
        assert re.search(r"as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", text)


def test_what_may_be_wider_than_a_screen_scrolls_by_itself(reported: Path) -> None:
    text = report(reported / "segformer")
    assert '<meta name="viewport" content="width=device-width' in text
    tables = re.findall(r"(<div class=[^>]+>)?<table", text)
    assert len(tables) >= 5
    assert all(
        around in ("<div class=wide>", '<div class="wide">', '<div class="text">') for around in tables
    )


def test_gpu_memory_and_the_norms_of_several_players_are_drawn(tmp_path: Path) -> None:
    run = declare(tmp_path, albedo_of("A1"))
    journal = phase(run, "A1", fingerprint="0" * 64, errors={2: 0.5, 4: 0.25}, age_s=10) / "metrics.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "step":
            line |= {"gpu_peak_bytes": 3 * 2**30, "generator/gradient_norm": 1.5, "critic/gradient_norm": 2.5}
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    titles = [title.text or "" for svg in figures(report(run)) for title in svg.iter("title")]
    assert "step 2\ntensors: 3" in titles
    assert "step 2\ngenerator: 1.5\ncritic: 2.5" in titles

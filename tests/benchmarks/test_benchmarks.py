"""The ways that a benchmark compares give the same result; these tests measure no time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import delivery
import ray_vs_torchrun
import start_up
import sweep_overhead
import texture_reading
import tile_cache
import timing

from pbrlib.curriculum.config.load import load_curriculum, load_runtime
from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.sources.generated import GeneratedSource


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ShardSet]:
    root = tmp_path_factory.mktemp("delivery")
    return root, delivery.write_materials(root, count=2, size=264)


def test_plain_loop_and_png_files_deliver_equal_pixels(small: tuple[Path, ShardSet]) -> None:
    root, shards = small
    plan, steps = delivery.plan_of(shards, delivery.QUICK), range(2)
    crops = delivery.PngCrops(root / "png", shards, plan, steps)
    plain = list(delivery.from_plain_loop(shards, plan, steps))
    assert len(crops) == delivery.BATCH * len(plain)
    for name in delivery.NAMES:
        from_png = torch.stack([crops[number][name] for number in range(len(crops))])
        assert torch.equal(from_png, torch.cat([batch[name] for batch in plain]))


def test_a_delivery_measures_the_named_steps_and_sums_every_batch(small: tuple[Path, ShardSet]) -> None:
    _, shards = small
    plan, span = delivery.plan_of(shards, delivery.QUICK), delivery.Span(range(1, 4), range(2, 4))
    found = delivery.deliver(lambda: delivery.from_plain_loop(shards, plan, span.steps), span)
    batches = delivery.from_plain_loop(shards, plan, span.steps)
    wanted = [timing.checksum(batch[name] for name in delivery.NAMES) for batch in batches]
    assert found.checksums == dict(zip([1, 2, 3], wanted, strict=True))
    assert found.waits_s.keys() == {1, 2, 3}
    assert len(set(wanted)) == 3


def test_different_pixels_stop_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    one = delivery.Delivery(1.0, 1.0, 1.0, waits_s={}, checksums={0: 5, 1: 6})
    other = delivery.Delivery(1.0, 1.0, 1.0, waits_s={}, checksums={1: 7})
    delivery.check_pixels({"stream": [one], "plain loop": [one]})
    assert "2 batches" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="step 1: got other pixels from the plain loop"):
        delivery.check_pixels({"stream": [one], "plain loop": [other]})


def test_a_run_in_memory_trains_the_same_weights_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides of the launcher comparison run this loop; this test runs it with one rank."""
    monkeypatch.setattr(ray_vs_torchrun, "WARM_UP", 1)
    setting = ray_vs_torchrun.Setting(tmp_path, steps=4, crop=32, batch=2)
    ray_vs_torchrun.write_materials(tmp_path / "shards", count=2, size=64)
    found = []
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        for _ in range(2):
            (tmp_path / "phase").mkdir(exist_ok=True)
            ray_vs_torchrun.train_rank(setting, rank=0, world=1, root=os.getpid(), ray=False)
            found.append(json.loads((tmp_path / "rank0.json").read_text()))
    finally:
        torch.distributed.destroy_process_group()
    assert [one["steps"] for one in found] == [2, 2]
    assert found[0]["weights"] == found[1]["weights"]
    assert all(one["wall"] > 0 and one["cpu"] > 0 for one in found)


BURNS = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
work = "import time\\nwhile time.process_time() < 0.5: pass"
subprocess.Popen([sys.executable, "-c", work])
try:
    os.wait()
except ChildProcessError:
    pass
print("ended", flush=True)
sys.stdin.read()
"""


def test_cpu_time_of_orphans_is_counted_while_they_run() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BURNS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as one:
        assert one.stdout is not None
        with ThreadPoolExecutor() as reading:
            ended = reading.submit(one.stdout.readline)
            used = timing.tree_cpu_until(ended.done, os.getpid())
        assert used >= 0.4
        assert timing.tree_cpu(one.pid) < 0.4, "an orphan does not count for its parent"
        one.communicate()


def test_a_trial_delivers_the_same_pixels_with_each_cache_and_counts_what_it_decodes(tmp_path: Path) -> None:
    source = GeneratedSource(count=2, size=264, seed=0)
    shards = tile_cache.write_set(tmp_path / "set", source, count=2)
    off = tile_cache.Trial(shards.location, None, crop=256, draws=16)
    through = replace(off, cache=tmp_path / "cache")
    full = replace(off, cache=tmp_path / "full", cache_bytes=4096)
    costs = [tile_cache.run_trial(trial) for trial in (off, through, through, full)]
    tile_cache.check_pixels({"all": costs})
    without, cold, warm, kept_none = (cost.decoded for cost in costs)
    assert warm == 0
    assert 0 < cold < without == kept_none
    other = tile_cache.run_trial(replace(off, draws=8))
    with pytest.raises(SystemExit, match="different pixels"):
        tile_cache.check_pixels({"all": costs, "other": [other]})


def test_cpu_of_ended_children_counts_and_that_of_others_does_not() -> None:
    before = timing.tree_cpu(os.getpid())
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert timing.tree_cpu(os.getpid()) - before >= 0.25
    with subprocess.Popen(["sleep", "60"]) as other:
        assert other.pid in timing.children(os.getpid())
        assert timing.tree_cpu(other.pid) < 0.25
        other.kill()


def test_ratios_are_taken_within_a_round() -> None:
    spread = timing.Spread.of_ratios([2.0, 20.0, 200.0], [1.0, 10.0, 100.0])
    assert (spread.low, spread.median, spread.high) == (2.0, 2.0, 2.0)
    assert timing.Goal("at most", 1.05).met(1.05)
    assert not timing.Goal("at least", 10.0).met(9.9)


def test_all_ways_of_the_sweep_benchmark_train_the_same_curricula(tmp_path: Path) -> None:
    from pbrlib.curriculum.config.load import load_curriculum
    from ray_jobs.sweep.sweeprun import open_sweep

    setting = sweep_overhead.prepare(tmp_path, trials=2, steps=20)
    runtime, places = tmp_path / "runtime.yaml", {"runs": tmp_path / "runs", "out": tmp_path / "sweep"}
    work = open_sweep(
        tmp_path / "search.yaml",
        data=DataSpec.from_location(tmp_path / "shards"),
        runtime_file=runtime,
        overrides=[],
        **places,
    )
    for params, rate in zip(work.search.spec.grid(), setting.rates, strict=True):
        override = f"{sweep_overhead.ADDRESS}={rate}"
        assert work.search.trial(params) == load_curriculum(tmp_path / "segformer.yaml", overrides=[override])


def test_lines_of_a_command_are_timed_as_they_come_and_a_failure_stops_the_benchmark() -> None:
    script = "import time; print('one'); time.sleep(0.3); print('two')"
    (first, one), (second, two), (end, _) = sweep_overhead.timed([sys.executable, "-c", script])
    assert (one, two) == ("one", "two")
    assert second - first >= 0.25 and end >= second
    with pytest.raises(SystemExit, match="two"):
        sweep_overhead.timed([sys.executable, "-c", f"{script}; raise SystemExit(1)"])


def test_different_metrics_stop_the_benchmark() -> None:
    one = sweep_overhead.Timed(3.0, start=1.0, end=0.5, found=(0.1, 0.2))
    other = sweep_overhead.Timed(3.0, start=0.0, end=0.0, found=(0.1, 0.3))
    assert one.training == 1.5
    sweep_overhead.check_figures({"sweep": [one], "one process": [one]})
    with pytest.raises(SystemExit, match="n commands: got metrics"):
        sweep_overhead.check_figures({"sweep": [one], "n commands": [other]})


def test_every_format_of_a_texture_is_written_and_read(tmp_path: Path) -> None:
    files = texture_reading.write_files(tmp_path, side=16)
    assert set(files) == {"BC1", "BC3", "BC4", "BC5", "BC7", "PNG", "TGA", "BMP", "JPEG", "WEBP"}
    assert min(texture_reading.measure(files, rounds=1).values()) > 0


def test_every_second_of_a_start_belongs_to_one_part() -> None:
    stages = {"workers": 12.0, "program": 15.0, "networks": 19.0, "first batch": 20.0}
    lines = [
        {"kind": "launched", "at": 10.0},
        *({"kind": "starting", "at": at, "stage": stage} for stage, at in stages.items()),
        {"kind": "begun", "at": 22.5, "step": 0},
        {"kind": "spent", "at": 30.0, "step": 4},
        {"kind": "ended", "at": 31.5},
    ]
    parts = start_up.parts_of(lines)
    assert [*parts.values()] == [2.0, 3.0, 4.0, 1.0, 2.5, 12.5, 1.5]
    assert parts[start_up.TOTAL] == 12.5 and parts[start_up.ENDING] == 1.5


def test_the_phases_of_the_start_up_benchmark_begin_from_each_other(tmp_path: Path) -> None:
    curriculum, runtime = start_up.write_files(tmp_path)
    phases = load_curriculum(curriculum).phases
    assert [phase.starts_from for phase in phases.values()] == [None, "S0", "S1"]
    assert load_runtime(runtime).workers == 2

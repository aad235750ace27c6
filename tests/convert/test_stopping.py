import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pbrlib.convert import runner
from pbrlib.convert.conversion import Settings
from pbrlib.convert.conversionreport import Report
from pbrlib.convert.runner import Progress, convert_tree
from pbrlib.convert.stopping import StopError, StopSignals
from pbrlib.convert.truepbr import DiskFullError
from pbrlib.errors import CheckpointError, DataError
from pbrlib.textures.pairs import Listing
from tests.convert.readers import refusing_writer
from tests.convert.textures import FakeNetworks, save_pair

NAMES = ["a", "b", "c", "d"]


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Restore the default signal handlers, since the test process may ignore signals."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in NAMES:
        save_pair(tmp_path / "in", name)
    return tmp_path


def convert(tree: Path, **given: object) -> Report:
    settings = Settings(num_workers=1)
    return convert_tree(FakeNetworks, source=tree / "in", output=tree / "out", settings=settings, **given)


def saved(tree: Path) -> dict:
    return json.loads((tree / "out/report.json").read_text())


def unfinished(tree: Path) -> list[Path]:
    return [path for path in (tree / "out").rglob("*") if path.suffix == ".part"]


def after(done: int, act: Callable[[], None]) -> Callable[[Progress], None]:
    def watch(progress: Progress) -> None:
        if progress.done == done:
            act()

    return watch


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("done", [0, 2])
def test_a_signal_ends_the_conversion_and_the_report_lists_pending_pairs(
    tree: Path, number: signal.Signals, done: int
) -> None:
    report = convert(tree, watch=after(done, lambda: os.kill(os.getpid(), number)))
    assert report.exit_code == 128 + number
    content = saved(tree)
    assert content["state"] == "stopped"
    assert content["reason"] == f"stopped by {number.name}"
    converted = [item["name"] for item in content["converted"]]
    assert len(converted) >= done
    for item in content["converted"]:
        assert all((tree / "out" / file).is_file() for file in item["files"])
    pending = [item["path"] for item in content["left_out"] if item["fate"] == "pending"]
    assert sorted([*converted, *(path.removesuffix(".dds") for path in pending)]) == NAMES
    assert not unfinished(tree)


def test_a_report_is_written_after_a_signal_during_listing(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(source: Path, *, output: Path) -> Listing:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal comes first")

    monkeypatch.setattr(runner, "find_textures", stopped)
    assert convert(tree).exit_code == 128 + signal.SIGTERM
    assert saved(tree)["state"] == "stopped"


def test_a_second_signal_does_not_interrupt_the_report(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = runner.write_files_together

    def interrupted(output: Path, files: dict) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        write(output, files)

    def stop() -> None:
        monkeypatch.setattr(runner, "write_files_together", interrupted)
        os.kill(os.getpid(), signal.SIGINT)

    convert(tree, watch=after(1, stop))
    assert saved(tree)["state"] == "stopped"


def test_a_signal_after_the_last_texture_does_not_prevent_the_report(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = runner._ConversionRun.end

    def interrupted(run: runner._ConversionRun, state: str, **given: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        end(run, state, **given)

    monkeypatch.setattr(runner._ConversionRun, "end", interrupted)
    report = convert(tree)
    assert (report.state, report.exit_code, saved(tree)["state"]) == ("complete", 0, "complete")


def test_handlers_of_the_caller_are_restored_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_except_exception_does_not_catch_a_signal() -> None:
    assert not issubclass(StopError, Exception)


def test_the_report_exists_from_the_first_texture_on(tree: Path) -> None:
    states: list[tuple[str, int]] = []

    def look() -> None:
        content = saved(tree)
        states.append((content["state"], content["counts"]["pending"]))

    convert(tree, watch=after(0, look))
    assert states == [("running", 4)]
    assert "pending" not in saved(tree)["counts"]


def test_the_report_is_updated_regularly(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "SAVE_EVERY_S", 0.0)
    pending: list[int] = []
    convert(tree, watch=lambda progress: pending.append(saved(tree)["counts"].get("pending", 0)))
    assert pending[0] == 4
    assert pending[-1] < 4


def test_the_report_has_the_error_of_a_network_that_cannot_be_opened(tree: Path) -> None:
    def lacking() -> FakeNetworks:
        raise CheckpointError("runs: no trained network for height.")

    with pytest.raises(CheckpointError):
        convert_tree(lacking, source=tree / "in", output=tree / "out")
    assert (saved(tree)["state"], saved(tree)["reason"]) == ("failed", "runs: no trained network for height.")


def test_no_texture_is_converted_after_the_disk_is_full(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        save_pair(tree / "in", f"more{number}")
    networks = FakeNetworks()
    monkeypatch.setattr("pbrlib.convert.conversion.write_texture", refusing_writer)
    with pytest.raises(DataError, match="No space left"):
        convert_tree(
            lambda: networks, source=tree / "in", output=tree / "out", settings=Settings(num_workers=1)
        )
    assert len(networks.seen) < 8
    assert saved(tree)["state"] == "failed"
    assert saved(tree)["counts"]["pending"] > 8


def test_disk_space_for_the_final_report_is_reserved_and_released(tree: Path) -> None:
    kept: list[int] = []

    def look(progress: Progress) -> None:
        kept.append(sum(path.stat().st_size for path in (tree / "out").glob(".pbr.*.part")))

    convert(tree, watch=look)
    assert min(kept) > 0
    assert (tree / "out/report.json").stat().st_size <= min(kept)
    assert not unfinished(tree)


def test_the_report_is_written_without_disk_space_for_the_contact_sheet(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = runner.write_files_together

    def refusing(output: Path, files: dict) -> None:
        if any(path.name == runner.SHEET_FILE for path in files):
            raise DiskFullError("contact.png: cannot be written (No space left on device).")
        write(output, files)

    monkeypatch.setattr(runner, "write_files_together", refusing)
    with pytest.raises(DataError, match="No space left"):
        convert(tree)
    assert saved(tree)["counts"] == {"converted": 4}

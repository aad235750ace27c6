import json
from pathlib import Path

import pytest

from pbrlib import storage
from pbrlib.convert.conversion import Settings
from pbrlib.convert.diskspace import estimate_bytes
from pbrlib.convert.runner import convert_tree
from pbrlib.convert.texturepairs import find_textures
from pbrlib.errors import DataError
from tests.convert.textures import FakeNetworks, dds, picture, save_pair

ONE = Settings(num_workers=1)


def written(output: Path) -> int:
    return sum(path.stat().st_size for path in output.rglob("*.dds"))


@pytest.mark.parametrize("alpha", [255, 90])
def test_the_estimate_is_the_minimum_size_of_the_written_files(tmp_path: Path, alpha: int) -> None:
    save_pair(tmp_path / "in", "lamp", size=64, alpha=alpha)
    (tmp_path / "in/lamp_g.dds").write_bytes(dds(picture(64, 64)))
    (pair,) = find_textures(tmp_path / "in").pairs
    convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert (
        estimate_bytes(pair)
        <= written(tmp_path / "out")
        <= estimate_bytes(pair) * (1.1 if alpha == 255 else 1.25)
    )


def test_a_disk_that_is_too_small_is_an_error_before_a_network_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted() -> FakeNetworks:
        raise AssertionError("no network is opened")

    for name in ("a", "b"):
        save_pair(tmp_path / "in", name, size=64)
    monkeypatch.setattr(storage, "free_bytes", lambda path: 32_000)
    with pytest.raises(DataError, match=r"out: got 0\.0 MB free; expected at least 0\.0 MB for 2 textures"):
        convert_tree(unwanted, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert (report["state"], report["counts"]) == ("failed", {"converted": 0, "pending": 2})


def test_replaced_files_need_no_additional_disk_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pair(tmp_path / "in", "wall", size=64)
    monkeypatch.setattr(storage, "free_bytes", lambda path: 16_384)
    convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    monkeypatch.setattr(storage, "free_bytes", lambda path: 1_000)
    report = convert_tree(FakeNetworks, source=tmp_path / "in", output=tmp_path / "out", settings=ONE)
    assert report.exit_code == 0

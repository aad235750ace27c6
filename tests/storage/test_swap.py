"""Tests of replacing a folder, with kills in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from pbrlib.storage import swap


def folder(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def no_exchange(one: Path, other: Path) -> bool:
    return False


@pytest.mark.parametrize("exchange", [swap.exchange, no_exchange])
def test_a_swap_leaves_only_the_new_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: object
) -> None:
    monkeypatch.setattr(swap, "exchange", exchange)
    for content in ("first", "second"):
        swap.swap_in(folder(tmp_path / "new", content), tmp_path / "model")
        assert (tmp_path / "model" / "file").read_text() == content
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_two_folders_exchange_their_names(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "one", "1"), folder(tmp_path / "other", "2")
    if not swap.exchange(one, other):
        pytest.skip("this file system cannot exchange two names")
    assert ((one / "file").read_text(), (other / "file").read_text()) == ("2", "1")


def test_a_kill_between_two_renames_is_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new, target = folder(tmp_path / "new", "new"), folder(tmp_path / "model", "old")
    rename = Path.rename

    def dies_the_second_time(self: Path, to: Path) -> Path:
        if self == new:
            raise KeyboardInterrupt
        return rename(self, to)

    monkeypatch.setattr(swap, "exchange", no_exchange)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dies_the_second_time)
        with pytest.raises(KeyboardInterrupt):
            swap.swap_in(new, target)
    assert not target.exists()
    swap.finish_swap(target)
    assert (target / "file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "new"]


def test_a_kill_before_the_old_folder_is_removed_is_repaired(tmp_path: Path) -> None:
    target = folder(tmp_path / "model", "new")
    folder(tmp_path / ".model.old", "old")
    swap.finish_swap(target)
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]

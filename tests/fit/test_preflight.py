"""Nodes that say nothing of themselves; tests/ray/test_rehearse.py asks real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import exceptions as lost

from pbrlib.data.shards.dataspec import DataSpec
from pbrlib.errors import OutageError
from ray_jobs.fit import preflight

A, B, C = "a" * 56, "b" * 56, "c" * 56  # as long as Ray's


class Cluster:
    """Three nodes, of which one never answers, or is lost; a task is the node that it was sent to."""

    def __init__(self, end: Exception | None = None) -> None:
        self._end = end

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": id_, "NodeManagerHostname": f"host-{id_[0]}", "Alive": True} for id_ in (A, B, C)]

    def remote(self, _: object) -> SimpleNamespace:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_, node, **__: node))

    def wait(self, tasks: list[str], *, num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        assert num_returns == 3 and timeout == preflight.INSPECT_TIMEOUT_S
        return ([A, B, C], []) if self._end else ([A, C], [B])

    def get(self, tasks: list[str]) -> None:
        if self._end:
            raise self._end


def test_a_node_that_does_not_look_in_time_is_an_outage_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "ray", Cluster())
    with pytest.raises(OutageError, match=rf"^host-b: got no answer within 120 s about {tmp_path} and /s"):
        preflight.inspect_nodes(tmp_path, data=DataSpec.from_location("/shards"))


@pytest.mark.parametrize("kind", [lost.NodeDiedError, lost.OutOfMemoryError, lost.LocalRayletDiedError])
def test_a_node_that_is_lost_while_it_looks_is_an_outage(
    kind: Callable[[str], lost.RayError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "ray", Cluster(kind("Task failed because its node died.")))
    with pytest.raises(OutageError, match=r"a node was lost while it inspected .*died.*ray list nodes"):
        preflight.inspect_nodes(tmp_path, data=DataSpec.from_location("/shards"))


def test_an_error_of_the_look_itself_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = lost.RayTaskError("inspect_node", "its traceback", KeyError("places"))
    monkeypatch.setattr(preflight, "ray", Cluster(bug))
    with pytest.raises(lost.RayTaskError, match="its traceback"):
        preflight.inspect_nodes(tmp_path, data=DataSpec.from_location("/shards"))

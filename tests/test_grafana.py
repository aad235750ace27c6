"""The dashboard shows exactly the served gauges; tests/ray/test_monitoring.py runs its queries."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ray_jobs.fit.gauges import SERVED

DASHBOARD = Path(__file__).parents[1] / "configs" / "grafana" / "training.json"


def test_the_dashboard_has_exactly_one_panel_for_every_gauge() -> None:
    board = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    shown = [name for query in queries for name in re.findall(r"ray_\w+", query)]
    assert sorted(shown) == sorted(SERVED)


def test_panels_do_not_overlap_and_have_title_unit_and_source() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["title"] and panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"

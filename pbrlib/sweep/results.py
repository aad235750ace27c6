"""Writes the results of a sweep: all trials as data, the best as overrides, and one HTML page."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import yaml

from pbrlib import storage
from pbrlib.sweep.page import PAGE, page
from pbrlib.sweep.ranking import differing, origin, ranked, title_of
from pbrlib.sweep.searchfile import Search
from pbrlib.sweep.study import SweepStudy

BEST, TRIALS = "best.yaml", "trials.json"


def write_results(study: SweepStudy, search: Search) -> list[Path]:
    """Write all trials, the report and, once a trial is finished, ``best.yaml``; return the paths."""
    order = ranked(study)
    storage.write_atomic(
        study.folder / TRIALS, json.dumps([asdict(configuration) for configuration in order], indent=1)
    )
    written = [study.folder / TRIALS]
    if order and order[0].state == "finished":
        best = differing(order[0].params, search)
        head = [f"# {origin(study, order[0], sweep=study.folder)}"]
        head.append(f"# pbr tune apply {study.folder} --to {search.curriculum_file}")
        body = (
            yaml.safe_dump(best, sort_keys=False) if best else "{}  # the unchanged curriculum is the best\n"
        )
        storage.write_atomic(study.folder / BEST, "\n".join([*head, body]))
        written.append(study.folder / BEST)
    storage.write_atomic(study.folder / PAGE, page(study, title=title_of(search)))
    return [*written, study.folder / PAGE]

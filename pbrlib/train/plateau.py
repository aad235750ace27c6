"""When a phase ends before its last step: its validations no longer improve."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pbrlib.train.checkpoint.state import Validated
from pbrlib.train.runtimespec import Selection

PLATEAU = "plateau"
"""What a state says of a phase that ended so."""


def steps_since_best(history: Sequence[Validated], selection: Selection) -> int:
    """The steps from the first of the best validations to the last one; all of them if none has a value."""
    best, at = -math.inf, 0
    for validated in history:
        score = selection.score(validated.metrics)
        if score > best:
            best, at = score, validated.step
    return history[-1].step - at


def on_plateau(history: Sequence[Validated], selection: Selection, *, patience_steps: int | None) -> bool:
    """Whether the last ``patience_steps`` brought no better validation; never without such a limit.

    Equal on every rank, since validations are reduced over all of them.
    """
    if patience_steps is None or not history:
        return False
    return steps_since_best(history, selection) >= patience_steps

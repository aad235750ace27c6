"""Early stopping: ends a phase whose validations no longer improve."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pbrlib.train.checkpoint.state import Validated
from pbrlib.train.runtimespec import Selection

PLATEAU = "plateau"
"""Value of ``State.stopped`` for a phase that ended on a plateau."""


def steps_since_best(history: Sequence[Validated], selection: Selection) -> int:
    """Return the steps since the first best validation; all steps if no validation has a value."""
    best, at = -math.inf, 0
    for validated in history:
        score = selection.score(validated.metrics)
        if score > best:
            best, at = score, validated.step
    return history[-1].step - at


def on_plateau(history: Sequence[Validated], selection: Selection, *, patience_steps: int | None) -> bool:
    """Return whether the last ``patience_steps`` brought no better validation; False if it is None.

    The result is equal on every rank, since validations are reduced over all ranks.
    """
    if patience_steps is None or not history:
        return False
    return steps_since_best(history, selection) >= patience_steps

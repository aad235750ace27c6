"""The phase that a fit trains now, as the callbacks in its controller need it.

The controller of the fit, a separate process, imports this module, so the module imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.train import UserCallback

from ray_jobs.fit.placement import PHASE


class CurrentPhase(UserCallback):
    """Follows the reports of the workers from one phase to the next; the first of the callbacks of a fit.

    Args:
        directory: The folder of the phase with which the fit begins.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def name(self) -> str:
        """The name of the phase."""
        return self.directory.name.rpartition("-")[0]

    @property
    def title(self) -> str:
        """The run and the folder of the phase, such as ``segformer/S0-5a1d33c0``."""
        return f"{self.directory.parent.name}/{self.directory.name}"

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Take over the phase that the report names."""
        self.directory = Path(metrics[0][PHASE])

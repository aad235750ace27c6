"""The folders from which Ray's workers import Python code, without those that could replace a library."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from ray.job_config import JobConfig

from pbrlib.errors import ConfigError
from ray_jobs.safepath import CODE

_JOB_CONFIG_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The environment variable in which a job finds its own configuration; Ray named it so."""


class SafeJobConfig(JobConfig):
    """A job configuration that lets workers import from the checkout of this code, but no other folder here.

    Ray adds the driver's current folder and its script's, and every worker puts them before the standard
    library: a ``numpy.py`` beside the textures would run in place of the library.
    """

    def _get_proto_job_config(self) -> Any:
        """Return Ray's own message without those folders; Ray calls this last before it sends the message."""
        self._py_driver_sys_path = [
            folder for folder in self._py_driver_sys_path if os.path.realpath(folder) == CODE
        ]
        return super()._get_proto_job_config()  # type: ignore[no-untyped-call]


def refuse_shadows() -> None:
    """Raise ConfigError for uploaded files of a job that its workers would import in place of libraries.

    Ray puts the upload before the standard library in every process of a job. ``pbr submit`` uploads no such
    file, ``ray job submit`` uploads all.
    """
    job = json.loads(os.environ.get(_JOB_CONFIG_VARIABLE, "{}"))
    if "working_dir" not in (job.get("runtime_env") or {}):
        return
    known = {*sys.stdlib_module_names, *packages_distributions()} - {"pbrlib", "ray_jobs"}
    here = Path.cwd()
    found = [path.name for path in sorted(here.glob("*.py")) if path.stem in known]
    found += [path.parent.name for path in sorted(here.glob("*/__init__.py")) if path.parent.name in known]
    if found:
        raise ConfigError(
            f"{here}: got {', '.join(found)}, which every process of this job imports in place of the "
            "library of that name. Use `pbr submit`, which uploads no Python, or name them in .rayignore."
        )

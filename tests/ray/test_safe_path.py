"""Ray's workers do not import from the folder that their driver stands in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ray

DRIVER = """
import json, sys
from ray_jobs.safepath import leave_current_folder
leave_current_folder()
import ray
from ray_jobs.cluster.session import ray_session

def look():
    import os, sys
    from importlib.util import find_spec
    import numpy
    return {"found": find_spec("only_here") is not None, "numpy": numpy.__file__, "path": sys.path}

with ray_session(address=sys.argv[1]):
    print(json.dumps(ray.get(ray.remote(look).remote())))
"""


@pytest.mark.ray
def test_workers_do_not_import_from_the_folder_of_their_driver(ray_cluster: None, tmp_path: Path) -> None:
    for name in ("numpy", "yaml", "types", "random", "queue", "secrets", "only_here"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the folder was run')\n")
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, address],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert not seen["found"] and str(tmp_path) not in seen["path"]
    assert not seen["numpy"].startswith(str(tmp_path))

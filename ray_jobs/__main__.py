"""``python -m ray_jobs``: the ``pbr`` command for ``ray job submit``, where no script is installed."""

from ray_jobs.cli import main

if __name__ == "__main__":  # child processes import this module, too
    main(prog_name="pbr")

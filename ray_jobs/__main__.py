"""``python -P -m ray_jobs``: the ``pbr`` command for ``ray job submit``, where no script is installed."""

if __name__ == "__main__":  # child processes import this module, too
    from ray_jobs.safepath import leave_current_folder

    leave_current_folder()
    from ray_jobs.cli import main

    main(prog_name="pbr")

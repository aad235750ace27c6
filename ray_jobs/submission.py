"""Check a ``pbr`` command as the job will parse it, and submit it to a Ray cluster."""

from __future__ import annotations

import logging
import os
import re
import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pbrlib.errors import ConfigError, OutageError, first_line
from ray_jobs.cluster.session import has_token_at_home
from ray_jobs.cluster.stopping import WAIT
from ray_jobs.safepath import CODE, SAFE_PATH
from ray_jobs.source import paths_of_source

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DASHBOARD = "http://127.0.0.1:8265"
"""Address at which ``ray dashboard`` and ``kubectl port-forward`` serve the dashboard of a cluster."""

STOP_WAIT_S = 300
"""Time in which a stopped job must reach its next checkpoint before Ray kills it."""

_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_NO_AGENT = "No available agent"
_YOUNG_S, _YOUNG_PAUSE_S = 60.0, 2.0
"""Time without an agent for jobs that a cluster may need after its start, and the pause between tries."""
_PYTHON = ("*.py", "*.pyc", "*.so", "*.pth")
"""Files that a job could import: its processes search the upload before the standard library."""
_OUR_CODE = ("!/pbrlib/**/*.py", "!/ray_jobs/**/*.py")
_UPLOADED = ("files", "file", "runtime_file")
_PLACES = ("runs", "out", "location")
_MATERIALS = ("sources", "source")
_ADDRESS = re.compile(r"[a-z0-9]+:/")
_ID = re.compile(r"[^A-Za-z0-9_.-]+")
"""Characters that a job id must not contain, because it is used in addresses, file names and commands."""


def check_command(arguments: Sequence[str], *, working_dir: Path) -> click.Context:
    """Parse the command as the job will, and check that its paths exist there.

    Raises:
        ConfigError: A path is relative to this machine, or a file is not in ``working_dir``.
    """
    from ray_jobs.cli import SUBCOMMANDS, main

    name = arguments[0]
    found = main.get_command(click.Context(main), name)
    if found is None or name == "submit":
        known = ", ".join(one for one in SUBCOMMANDS if one != "submit")
        raise ConfigError(f"pbr submit: {name} is not a command for a cluster. Use one of {known}.")
    context = found.make_context(f"pbr {name}", list(arguments[1:]))
    while isinstance(context.command, click.Group):
        words = [*context._protected_args, *context.args]
        word, inner, rest = context.command.resolve_command(context, words)
        assert inner is not None
        context = inner.make_context(word, rest, parent=context)
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if value is None:
            continue
        if parameter.name in _UPLOADED:
            for file in value if isinstance(value, tuple) else (value,):
                _require_upload(Path(file), working_dir)
        elif parameter.name == "data":
            for place in value:
                _require_everywhere(parameter, place.location)
        elif parameter.name in _MATERIALS and isinstance(parameter, click.Argument):
            for source in value if isinstance(value, tuple) else (value,):
                for place in paths_of_source(source):
                    _require_everywhere(parameter, place)
        elif parameter.name in _PLACES or isinstance(parameter.type, click.Path):
            _require_everywhere(parameter, str(value))
    return context


def _require_everywhere(parameter: click.Parameter, place: str) -> None:
    if not _ADDRESS.match(place) and not Path(place).is_absolute():
        raise ConfigError(
            f"{parameter.opts[0]}: got {place}, a path in the job's upload, which is deleted; expected a "
            "path that every node has. Use an absolute path or an s3:// address."
        )


def _require_upload(file: Path, working_dir: Path) -> None:
    if file.is_absolute() or not (working_dir / file).is_file():
        raise ConfigError(
            f"{file}: got a file outside of the upload; expected a path relative to {working_dir.resolve()}. "
            "Move the file there, or set --working-dir."
        )


def job_metadata(subcommand: click.Context, *, working_dir: Path) -> dict[str, str]:
    """Return what the dashboard shows of a job: its paths, and ``job_name`` such as ``segformer/S1``."""
    values = subcommand.params
    files: Sequence[Path] = values.get("files") or ((values["file"],) if "file" in values else ())
    command = str((subcommand.parent or subcommand).command.name)
    name = "+".join(_name(working_dir / file) for file in files) or command
    if values.get("phases"):
        name += f"/{values['phases']}"
    given = {key: str(values[key]) for key in ("runs", "runtime_file") if values.get(key)}
    if values.get("data"):
        given["data"] = ", ".join(map(str, values["data"]))
    if values.get("sources"):
        # Materials of `pbr prepare`, or pairs of --source NAME=SOURCE.
        given["sources"] = ", ".join(
            one if isinstance(one, str) else "=".join(one) for one in values["sources"]
        )
    listed = {"files": " ".join(map(str, files))} if files else {}
    return {"job_name": name, "command": command, **listed, **given}


def _name(file: Path) -> str:
    """Return the name of a curriculum; for a ladder or a search, that of its file."""
    from pbrlib.curriculum.config.yamlfile import read_yaml

    content = read_yaml(file)
    named = content.get("name") if isinstance(content, dict) else None
    return str(named or file.stem)


def connect(address: str | None) -> JobSubmissionClient:
    """Return a client for jobs; raises ConfigError if no dashboard answers or the token is rejected."""
    address = address or next(filter(None, map(os.environ.get, _ADDRESSES)), DASHBOARD)
    if "://" not in address:
        raise ConfigError(
            f"{address}: expected the address of a dashboard, such as http://HOST:8265. `ray dashboard` and "
            "`kubectl port-forward` forward one to this machine."
        )
    for name in _ADDRESSES:  # Ray would prefer these to the given one.
        os.environ.pop(name, None)
    # Ray's clients send a token only in this mode.
    named = any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if named or has_token_at_home():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    from ray.exceptions import AuthenticationError

    from ray_jobs.cluster.jobclient import JobClient
    from ray_jobs.rayinternals import CHATTY_LOGGERS

    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        return JobClient(address)
    except AuthenticationError as error:
        raise ConfigError(
            f"{address}: the cluster rejected the request without its token. Set RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH, or write the token to ~/.ray/auth_token."
        ) from error
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"{address}: no cluster accepts jobs there ({first_line(error)}). Start it with `ray up`, and "
            "forward its dashboard with `ray dashboard`."
        ) from error


def submit(
    client: JobSubmissionClient, arguments: Sequence[str], *, working_dir: Path, metadata: dict[str, str]
) -> str:
    """Upload ``working_dir``, start ``pbr ARGUMENTS`` in it and return the job's id.

    Python files are uploaded only if they are this program's own and ``working_dir`` is its checkout.
    """
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    job = f"{_ID.sub('-', metadata['job_name'])}-{stamp}"
    given = {
        "entrypoint": shlex.join(["python", "-P", "-m", "ray_jobs", *arguments]),
        "submission_id": job,
        "metadata": metadata,
        "runtime_env": {
            "working_dir": str(working_dir.resolve()),
            "excludes": excludes(working_dir),
            "env_vars": {WAIT: str(STOP_WAIT_S), SAFE_PATH: "1"},
        },
    }
    patient_until = time.monotonic() + _YOUNG_S
    try:
        while not _try_submit(client, given, is_last=time.monotonic() > patient_until):
            time.sleep(_YOUNG_PAUSE_S)
    except OutageError as error:
        raise OutageError(f"{error} If the job was accepted, its id is {job}.") from error
    except (OSError, RuntimeError, ValueError) as error:
        if _NO_AGENT in str(error):
            raise ConfigError(
                f"{client.get_address()}: the cluster has no agent that accepts jobs. If another Ray uses "
                "its port on the head, start this one with `ray start --dashboard-agent-listen-port=PORT`."
            ) from error
        raise ConfigError(
            f"{working_dir.resolve()}: the job was rejected ({first_line(error)}). If the upload is too "
            "large, list the files that it does not need in .rayignore."
        ) from error
    click.echo(f"pbr: job {job} ({metadata['job_name']})", err=True)
    return job


def excludes(working_dir: Path) -> list[str]:
    """Return the patterns, as of ``.gitignore``, of what is not uploaded: Python files that are not ours."""
    if working_dir.resolve() == Path(CODE):
        return [*_PYTHON, *_OUR_CODE]
    if any(working_dir.glob("*.py")) or any(working_dir.glob("*/__init__.py")):
        click.echo(
            f"pbr: Python files of {working_dir} are not uploaded; the job runs the code of the cluster. To "
            "send the code of a checkout, submit with its own pbr.",
            err=True,
        )
    return list(_PYTHON)


def _try_submit(client: JobSubmissionClient, given: Mapping[str, Any], *, is_last: bool) -> bool:
    """Submit the job; return False while the cluster is still starting and has no agent for jobs."""
    try:
        client.submit_job(**given)
    except RuntimeError as error:
        if is_last or _NO_AGENT not in str(error):
            raise
        return False
    return True

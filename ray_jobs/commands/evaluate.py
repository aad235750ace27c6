"""``pbr evaluate MODEL --data SHARDS``: evaluates networks against trivial baselines, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pbrlib.data.shards.dataspec import DataPlace, DataSpec
from pbrlib.errors import ConfigError
from ray_jobs.commands import options
from ray_jobs.commands.paramtypes import LocalOrS3Path

if TYPE_CHECKING:
    from pbrlib.evaluate.scores import Lpips

_FOLDER = LocalOrS3Path(file_okay=False)


@click.command("evaluate")
@click.argument("run", metavar="MODEL", type=_FOLDER)
@options.DATA
@click.option(
    "--out",
    metavar="DIR",
    type=_FOLDER,
    help="Output folder. Default: RUNS/evaluation; for a model folder, MODEL-evaluation beside it.",
)
@click.option(
    "--device", default="auto", show_default=True, help="Device of the networks: auto, cpu or cuda."
)
@click.option(
    "--lpips",
    "weights",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Torchvision weights of the LPIPS backbone, for albedo. Default: LPIPS is not computed.",
)
@click.option(
    "--lpips-net",
    type=click.Choice(["alex", "vgg", "squeeze"]),
    default="alex",
    show_default=True,
    help="Backbone of LPIPS.",
)
def command(
    *,
    run: Path,
    data: tuple[DataPlace, ...],
    out: Path | None,
    device: str,
    weights: Path | None,
    lpips_net: Literal["alex", "vgg", "squeeze"],
) -> None:
    """Evaluate the networks of MODEL on the validation split of --data, against trivial baselines.

    MODEL is a model folder, or the directory given to pbr train --runs; a run or a phase in it stands for the
    networks of all its runs. Writes evaluation.json and contact-1.png, contact-2.png ... into DIR.
    """
    from pbrlib import storage
    from pbrlib.runs.place import networks_at

    if out is not None:
        storage.check_writable(out, option="--out")
    run = networks_at(run)
    folder = _out(run, out)
    storage.check_writable(folder, option="--out")
    if weights is not None and not weights.is_file():
        raise ConfigError(f"--lpips: got {weights}, where no file is; expected the weights of {lpips_net}.")
    from pbrlib.data.shards.union import open_data

    shards = open_data(DataSpec.from_options(data))
    from pbrlib.evaluate.evaluationreport import FILE
    from pbrlib.evaluate.measure import checkpoints_of, evaluate
    from pbrlib.inference.chain import Chain
    from ray_jobs.bar import show_progress
    from ray_jobs.device import parse_device
    from ray_jobs.output import print_evaluation

    chain = Chain.open(run, device=parse_device(device))
    lpips = None if weights is None else _lpips(lpips_net, weights)
    with show_progress("evaluate") as watch:
        evaluation = evaluate(
            chain,
            shards=shards,
            lpips=lpips,
            checkpoints=checkpoints_of(run),
            merge=chain.merge,
            watch=watch,
        )
    print_evaluation(evaluation, evaluation.write(folder / FILE))


def _out(run: Path, out: Path | None) -> Path:
    """The folder of the results; a model folder stays as its SHA256SUMS says."""
    from pbrlib.inference.modelfile import is_model

    if not is_model(run):
        return out or run / "evaluation"
    model = run.resolve()
    if out is not None and out.resolve().is_relative_to(model):
        raise ConfigError(
            f"--out: got {out}, a folder in the model {run}; expected one outside of it, because SHA256SUMS "
            "lists all files of a model. Give another folder."
        )
    return out or model.with_name(f"{model.name}-evaluation")


def _lpips(net: Literal["alex", "vgg", "squeeze"], weights: Path) -> Lpips:
    from pbrlib.evaluate.scores import Lpips
    from pbrlib.losses.perceptual import load_lpips

    # A whole path, since the bare word `random` would ask for random weights, and that is no LPIPS.
    place = str(weights.resolve())
    return Lpips(load_lpips(net=net, backbone=place), net, place)

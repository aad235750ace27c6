"""``pbr evaluate RUN --data SHARDS``: trained networks beside trivial baselines; one process, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pbrlib.errors import ConfigError
from ray_jobs.commands.paramtypes import Place

if TYPE_CHECKING:
    from pbrlib.evaluate.evaluationreport import Evaluation
    from pbrlib.evaluate.scores import Lpips

_WIDTH = 140
_FOLDER = Place(file_okay=False)


@click.command("evaluate")
@click.argument("run", type=_FOLDER)
@click.option("--data", metavar="SHARDS", required=True, help="The shard set whose validation split counts.")
@click.option(
    "--out",
    metavar="DIR",
    type=_FOLDER,
    help="Where the results go; default: RUN/evaluation, of a model folder MODEL-evaluation beside it.",
)
@click.option("--device", default="auto", show_default=True, help="Where the networks run: auto, cpu, cuda.")
@click.option(
    "--lpips",
    "weights",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Torchvision's weights of the LPIPS trunk, for albedo; without it there is no LPIPS.",
)
@click.option("--lpips-net", type=click.Choice(["alex", "vgg", "squeeze"]), default="alex", show_default=True)
def command(
    *,
    run: Path,
    data: str,
    out: Path | None,
    device: str,
    weights: Path | None,
    lpips_net: Literal["alex", "vgg", "squeeze"],
) -> None:
    """Measure the networks in RUN, the directory given to pbr train --runs or a model folder, on SHARDS.

    Writes evaluation.json and contact-1.png, contact-2.png ... into DIR.
    """
    from pbrlib.data.shards.reader import ShardSet
    from pbrlib.evaluate.evaluationreport import FILE
    from pbrlib.evaluate.measure import checkpoints_of, evaluate
    from pbrlib.inference.chain import Chain
    from ray_jobs.device import parse_device

    folder = _out(run, out)
    chain = Chain.open(run, device=parse_device(device))
    shards = ShardSet.open(data)
    lpips = None if weights is None else _lpips(lpips_net, weights)
    with watched() as watch:
        evaluation = evaluate(
            chain,
            shards=shards,
            lpips=lpips,
            checkpoints=checkpoints_of(run),
            merge=chain.merge,
            watch=watch,
        )
    show(evaluation, evaluation.write(folder / FILE))


def _out(run: Path, out: Path | None) -> Path:
    """The folder of the results; a model folder stays as its SHA256SUMS says."""
    from pbrlib.inference.modelfile import is_model

    if not is_model(run):
        return out or run / "evaluation"
    model = run.resolve()
    if out is not None and out.resolve().is_relative_to(model):
        raise ConfigError(
            f"--out {out}: lies in the model {run}, which stays as its SHA256SUMS says. Name another folder."
        )
    return out or model.with_name(f"{model.name}-evaluation")


@contextmanager
def watched() -> Iterator[Callable[[int, int], None]]:
    """A bar for an evaluation; what it gives takes the numbers of measured and of all textures."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluate", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show(evaluation: Evaluation, files: Sequence[Path]) -> None:
    """Prints the table, and where the files are; into a log as wide as the table needs."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    console.print(evaluation.table())
    console.print(f"Figures: {files[0]}", soft_wrap=True)
    console.print(f"Pictures: {', '.join(map(str, files[1:]))}", soft_wrap=True)


def _lpips(net: Literal["alex", "vgg", "squeeze"], weights: Path) -> Lpips:
    from pbrlib.evaluate.scores import Lpips
    from pbrlib.losses.perceptual import load_lpips

    # A whole path, since the bare word `random` would ask for random weights, and that is no LPIPS.
    place = str(weights.resolve())
    return Lpips(load_lpips(net=net, backbone=place), net, place)

"""Compare interpretations of the recipe on the same held-out textures with equal steps.

    python benchmarks/comparisons/readings.py --data SHARDS --donors RUNS --out DIR [--seeds 0 1 2]

The recipe is ambiguous in some terms. The reading is the interpretation that pbrlib implements; a rival is
another one. Curricula of ``configs/real`` are trained in processes of one thread, the reading and its
rivals with the same seeds, draws and steps. The last checkpoint of each is measured: the value of a texture
is its mean over the seeds, the interval that of the paired difference over textures. RUNS holds the trained
segmentation and albedo, from which the maps are predicted. A finished run is not trained again, so more
seeds can be added later.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.curriculum.run import launch_local, resolve
from pbrlib.data.shards.reader import ShardSet
from pbrlib.evaluate.compare import compare
from pbrlib.evaluate.measure import evaluate
from pbrlib.evaluate.scores import NET, Scores
from pbrlib.inference.chain import Chain
from pbrlib.inference.opened import open_network
from pbrlib.losses import entropies, gradients, reprojection
from pbrlib.train.checkpoint.state import checkpoints
from pbrlib.train.record.rundirectory import RunDirectory
from pbrlib.train.runtimespec import RuntimeSpec

CONFIGS = Path(__file__).parents[2] / "configs" / "real"
DONORS = ("segformer", "albedo")
READING = "reading"
"""The name of the variant that pbrlib implements; every other variant is a rival."""

MAPS = {"height": "height", "segformer": "segmentation", "roughness": "roughness", "metallic": "metallic"}
"""The map whose metrics are compared, by curriculum."""


@dataclass(frozen=True)
class Rival:
    """Another interpretation of the recipe: overrides of the curriculum, or a replacement of a loss term."""

    overrides: tuple[str, ...] = ()
    replace: Callable[[], None] = lambda: None


def unscaled() -> None:
    """Make NormalReproj take the height in pixels: a slope of 1 in [0, 1] is a slope of 1."""

    def one(height: Tensor, normal: Tensor, valid: Tensor, **_: Any) -> Tensor:
        return torch.ones_like(height[:, :1, :1, :1])

    reprojection.fitted_relief = one


def unsigned() -> None:
    """Make GradDiff compare absolute differences, without their signs."""

    def sizes(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        (px, py), (tx, ty) = gradients.tv(prediction), gradients.tv(target)
        return (px - tx).abs(), (py - ty).abs()

    gradients.grad_diff = sizes


def unweighted() -> None:
    """Remove the class weights from the focal term; cross entropy keeps them."""
    weighted = entropies.focal

    def plain(log_probabilities: Tensor, labels: Tensor, *, class_weights: Tensor, gammas: Tensor) -> Tensor:
        ones = torch.ones_like(class_weights)
        return weighted(log_probabilities, labels, class_weights=ones, gammas=gammas)

    entropies.focal = plain


_GLOSS = Rival(overrides=("task.use_gloss=true", "task.gloss_dropout=0.3"))
RIVALS: Mapping[str, Mapping[str, Rival]] = {
    "height": {
        "NormalReproj unscaled": Rival(replace=unscaled),
        "GradDiff unsigned": Rival(replace=unsigned),
    },
    "segformer": {"focal without w_c": Rival(replace=unweighted)},
    "roughness": {"with gloss": _GLOSS},
    "metallic": {"with gloss": _GLOSS},
}


def folder_of(out: Path, family: str, variant: str, seed: int) -> Path:
    """Return the folder of the runs and metrics of one training."""
    return out / f"{family}-{variant.replace(' ', '_')}-{seed}"


def train_one(args: argparse.Namespace) -> None:
    """Train one variant with one seed in this process and write its metrics."""
    family, variant, seed = args.family, args.variant, args.seeds[0]
    folder = folder_of(args.out, family, variant, seed)
    rival = Rival() if variant == READING else RIVALS[family][variant]
    rival.replace()
    torch.set_num_threads(1)
    runs = folder / "runs"
    for donor in DONORS:
        if donor != family and not (runs / donor).exists():
            shutil.copytree(args.donors / donor, runs / donor)
    shards = ShardSet.open(args.data)
    file = CONFIGS / f"{family}.yaml"
    curriculum = load_curriculum(file, overrides=[f"seed={seed}", *args.set, *rival.overrides])
    (phase,) = curriculum.phases
    job = resolve(curriculum, phase, shards=shards, runs=runs, runtime=RuntimeSpec(workers=1))
    launch_local(job)
    chain = chain_of(checkpoints(job.directory)[-1], runs, family=family)
    evaluation = evaluate(chain, shards=shards)
    evaluation.write(folder / "evaluation" / "evaluation.json")


def chain_of(last: Path, runs: Path, *, family: str) -> Chain:
    """Return the chain of the donors and the last checkpoint; of segformer the last checkpoint alone."""
    device = torch.device("cpu")
    spec, network = open_network(last, device=device)
    if family == "segformer":
        return Chain(network, None, {}, device)
    segformer, albedo = (
        open_network(RunDirectory(runs, name=donor).best()[0], device=device)[1] for donor in DONORS
    )
    return Chain(segformer, albedo, {spec.role: (spec, network)}, device)


def scores_over(out: Path, family: str, variants: Sequence[str], seeds: Sequence[int]) -> Scores:
    """Return scores of the reading (``net``) and its rivals; a texture's value is its mean over the seeds."""
    scores = Scores()
    for variant in variants:
        method = NET if variant == READING else variant
        for seed in seeds:
            file = folder_of(out, family, variant, seed) / "evaluation" / "evaluation.json"
            found = json.loads(file.read_text())
            for name, metrics in found["per_texture"].items():
                for metric, methods in metrics.items():
                    means = scores.values[name][metric][method]
                    for sample, value in methods[NET].items():
                        means[sample] = means.get(sample, 0.0) + value / len(seeds)
            for sample, matrix in found["confusions"].get(NET, {}).items():
                counts = torch.tensor(matrix)
                scores.confusions[method][sample] = scores.confusions[method].get(sample, 0) + counts
    return scores


def show(scores: Scores, family: str, *, seeds: Sequence[int]) -> None:
    """Print the means of the reading and of its rivals, and the difference of reading minus rival."""
    title = f"{family}: the reading and its rivals, {len(seeds)} seeds each"
    table = Table("metric", "reading", "rival", "mean of the rival", "reading - rival [95 %]", title=title)
    for found in compare(scores):
        if found.map != MAPS[family]:
            continue
        for rival, difference in found.differences.items():
            table.add_row(
                f"{found.map} {found.metric}",
                f"{found.methods[NET].mean:.4f}",
                rival,
                f"{found.methods[rival].mean:.4f}",
                f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]",
            )
    Console(width=140).print(table)


def main() -> None:
    """Run the trainings that are missing, in one process each, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="shard set with held-out textures")
    parser.add_argument("--donors", type=Path, required=True, help="runs directory with segformer and albedo")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=list(RIVALS), default=list(RIVALS), metavar="FAMILY")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override for every training"
    )
    parser.add_argument("--family", help=argparse.SUPPRESS)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.family:
        train_one(args)
        return
    for family in args.only:
        variants = (READING, *RIVALS[family])
        for seed in args.seeds:
            for variant in variants:
                if (folder_of(args.out, family, variant, seed) / "evaluation" / "evaluation.json").exists():
                    continue
                given = ["--data", args.data, "--donors", str(args.donors), "--out", str(args.out)]
                chosen = ["--family", family, "--variant", variant, "--seeds", str(seed)]
                overrides = [part for value in args.set for part in ("--set", value)]
                subprocess.run([sys.executable, __file__, *given, *chosen, *overrides], check=True)
        show(scores_over(args.out, family, variants, args.seeds), family, seeds=args.seeds)


if __name__ == "__main__":
    main()

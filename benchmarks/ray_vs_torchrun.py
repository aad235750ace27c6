"""Compare a step of the training loop under Ray TorchTrainer and under plain torchrun: two workers, gloo.

    python benchmarks/ray_vs_torchrun.py [--pairs 10] [--steps 50] [--quick]

Both sides run ``pbrlib.train.loop.train_phase`` on a small albedo task (96 px, global batch 8, frozen
SegFormer, one thread per worker). They load all batches into memory before the measurement, so that it
compares the launchers and excludes the data stream. Each run is a separate process, so that Ray's daemons
do not run while torchrun is measured. Pairs run in random order. The first steps and the end of the phase
do not count. Wall time is that of rank 0. CPU time is printed for both workers, and separately for the
process tree with Ray's daemons. The final weights of both sides must be equal bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from timing import EQUAL_PRIORITY, Goal, Line, Spread, checksum, interleaved, show, tree_cpu
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pbrlib.data.augment.augmentspec import AugmentSpec
from pbrlib.data.draws.batch import RawBatch
from pbrlib.data.draws.collate import collate
from pbrlib.data.draws.drawspec import BalanceSpec
from pbrlib.data.draws.fetch import fetch
from pbrlib.data.draws.plan import DrawPlan, PlanRequest, make_plan, share
from pbrlib.data.shards.reader import ShardSet
from pbrlib.data.shards.writer import publish, shard_name, write_shard
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.inference.chain import Chain
from pbrlib.losses.lossspec import LossSpec
from pbrlib.models.build import build_network
from pbrlib.models.modelspec import SegformerSpec, UNetSpec
from pbrlib.models.roles import SegmentationDeclaration
from pbrlib.optim.optimizerspec import AdamWSpec
from pbrlib.optim.schedules import ConstantSpec
from pbrlib.tasks.maps import MapTask
from pbrlib.tasks.taskspec import AlbedoSpec, maps_read, maps_required
from pbrlib.train.loop import train_phase
from pbrlib.train.phase import PhaseRun, PlayerRun
from pbrlib.train.runtimespec import RuntimeSpec, Selection
from ray_jobs.cluster.session import MALLOC_SETTINGS

WORKERS = 2
WARM_UP = 8
"""The number of steps before the measurement: DDP rebuilds its buckets, allocators and caches fill."""

TASK = AlbedoSpec(model=UNetSpec(width=16, depth=3, film_dropout=0.0))
SEGFORMER = SegformerSpec(
    backbone="custom",
    hidden_sizes=(16, 16, 32, 32),
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 2, 2),
    decoder_width=32,
)


@dataclass(frozen=True)
class Setting:
    """The settings of both sides. ``root`` holds the shards and the output of a run."""

    root: Path
    steps: int
    crop: int = 96
    batch: int = 8


@dataclass(frozen=True)
class RankResult:
    """The seconds that a rank measured over its steps, and the checksum of its final weights.

    ``tree_cpu`` is the CPU time of all processes of a side; only rank 0 reads it.
    """

    wall: float
    cpu: float
    tree_cpu: float
    steps: int
    weights: int


@dataclass(frozen=True)
class Step:
    """The milliseconds of one step, and the checksum of the final weights."""

    wall: float
    cpu: float
    tree_cpu: float
    weights: int


class TimedBatches:
    """Batches from memory that measure the time between requests of the training loop."""

    def __init__(self, batches: Sequence[RawBatch], *, root: int | None) -> None:
        self._batches, self._root = batches, root
        self.wall = self.cpu = self.tree_cpu = 0.0
        self.steps = len(batches) - 1 - WARM_UP

    def __iter__(self) -> Iterator[RawBatch]:
        for number, batch in enumerate(self._batches):
            if number == WARM_UP:
                tree = self._read_tree()
                wall, cpu = time.perf_counter(), time.process_time()
            elif number == len(self._batches) - 1:
                self.wall, self.cpu = time.perf_counter() - wall, time.process_time() - cpu
                self.tree_cpu = self._read_tree() - tree
            yield batch

    def _read_tree(self) -> float:
        return 0.0 if self._root is None else tree_cpu(self._root)


class TorchrunRuntime:
    """The runtime of the training loop with torch.distributed alone."""

    def __init__(self, shards: ShardSet, batches: TimedBatches) -> None:
        self.shards = shards
        self.rank, self.world_size = dist.get_rank(), dist.get_world_size()
        self.device = torch.device("cpu")
        self._batches = batches

    def wrap(self, module: nn.Module) -> nn.Module:
        """Wrap a module in DDP, as under Ray."""
        return DistributedDataParallel(module)

    def all_reduce(self, values: Tensor) -> Tensor:
        """Return the sum over the ranks."""
        summed = values.detach().clone()
        dist.all_reduce(summed)
        return summed

    def gather(self, value: list[str]) -> list[list[str]]:
        """Return only the value of this rank: the benchmark needs no others."""
        return [value]

    def share_buffers(self, module: nn.Module) -> None:
        """Do nothing, since the U-Net has no buffers."""

    def batches(self, plan: DrawPlan, *, maps: Sequence[str], first_step: int) -> Iterator[RawBatch]:
        """Return the batches in memory."""
        return iter(self._batches)

    def report(self, metrics: Mapping[str, float], *, checkpoint: Path | None, step: int) -> None:
        """Delete the checkpoint."""
        if checkpoint is not None:
            shutil.rmtree(checkpoint)

    def is_preempted(self) -> bool:
        """Return False: the benchmark takes seconds."""
        return False

    def publish(self, values: Mapping[str, object], *, step: int) -> None:
        """Do nothing, since no monitoring runs."""

    def latest_checkpoint(self) -> Path | None:
        """Return None: every run starts from the beginning."""
        return None


def build_task() -> MapTask:
    """Return the task, with equal weights on every rank of both sides."""
    torch.manual_seed(0)
    segmentation = build_network(SegmentationDeclaration(model=SEGFORMER)).eval().requires_grad_(False)
    chain = Chain(segmentation=segmentation, albedo=None, maps={}, device=torch.device("cpu"))
    return MapTask(TASK, chain=chain, loss=LossSpec.model_validate({"l1": 1.0, "ms_ssim": 0.15}))


def plan_of(shards: ShardSet, setting: Setting) -> DrawPlan:
    return make_plan(
        shards.rows,
        PlanRequest(
            mix={"generated": 1.0},
            crop=setting.crop,
            batch=setting.batch,
            epochs=1,
            maps=maps_required(TASK),
            balance=BalanceSpec(),
            seed=0,
            phase="bench",
            steps_per_epoch=setting.steps,
        ),
    )


def load_batches(shards: ShardSet, plan: DrawPlan, *, rank: int, world: int) -> list[RawBatch]:
    """Return the batches of a rank, one for each step."""
    start, stop = share(plan.batch, rank=rank, world=world)
    draws = plan.rows_of(rank=rank, world=world, first_step=0)
    return [
        collate(fetch(part, shards, maps_read(TASK)), shards, maps=maps_read(TASK))
        for part in (draws.slice(at, stop - start) for at in range(0, draws.num_rows, stop - start))
    ]


def phase_run(plan: DrawPlan, *, directory: Path) -> PhaseRun:
    return PhaseRun(
        name="bench",
        fingerprint="bench",
        seed=0,
        directory=directory,
        plan=plan,
        maps=maps_read(TASK),
        segment_steps=plan.total_steps,
        micro_batches=1,
        augment=AugmentSpec(flip=True, rotate90=True),
        players={"albedo": PlayerRun(AdamWSpec(lr=1e-3), ConstantSpec(), grad_clip=1.0)},
        selection=Selection(metric="val/all/albedo/l1", mode="min"),
        frozen={},
        runtime=RuntimeSpec(workers=WORKERS),
    )


def train_rank(setting: Setting, *, rank: int, world: int, root: int, ray: bool) -> None:
    """Train one rank of either side and write ``rankN.json``."""
    torch.set_num_threads(1)
    shards = ShardSet.open(setting.root / "shards")
    plan = plan_of(shards, setting)
    batches = TimedBatches(
        load_batches(shards, plan, rank=rank, world=world), root=root if rank == 0 else None
    )
    task = build_task()
    runtime: Any
    # Ray accepts checkpoints only in the folder of its run.
    run = phase_run(plan, directory=setting.root / ("ray/bench" if ray else "phase"))
    if ray:
        from ray_jobs.fit.gauges import PhaseGauges
        from ray_jobs.fit.runtime import RayRuntime

        class InMemory(RayRuntime):
            def batches(self, plan: DrawPlan, *, maps: Sequence[str], first_step: int) -> Iterator[RawBatch]:
                return iter(batches)

        gauges = PhaseGauges(curriculum="benchmark", phase="A1", run="0")
        runtime = InMemory(
            shards, run.runtime, selection=run.selection, directory=run.directory, gauges=gauges
        )
    else:
        runtime = TorchrunRuntime(shards, batches)
    train_phase(run, task, runtime, validation=())
    result = RankResult(
        wall=batches.wall,
        cpu=batches.cpu,
        tree_cpu=batches.tree_cpu,
        steps=batches.steps,
        weights=checksum(task.network.state_dict().values()),
    )
    (setting.root / f"rank{rank}.json").write_text(json.dumps(asdict(result)))


def torchrun_side(setting: Setting) -> None:
    """Train one rank in a process that torchrun started; its parent is torchrun."""
    dist.init_process_group("gloo")
    train_rank(setting, rank=dist.get_rank(), world=dist.get_world_size(), root=os.getppid(), ray=False)
    dist.destroy_process_group()


def ray_side(setting: Setting) -> None:
    """Run one TorchTrainer fit in a new Ray session."""
    from ray_jobs.cluster.session import ray_session

    with ray_session():
        import ray.train
        from ray.train.torch import TorchConfig, TorchTrainer

        TorchTrainer(
            train_ray_worker,
            train_loop_config={"setting": setting, "root": os.getpid()},
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ray.train.ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": 1}),
            run_config=ray.train.RunConfig(name="bench", storage_path=str(setting.root / "ray")),
        ).fit()


def train_ray_worker(config: Mapping[str, Any]) -> None:
    import ray.train

    context = ray.train.get_context()
    train_rank(
        config["setting"],
        rank=context.get_world_rank(),
        world=context.get_world_size(),
        root=config["root"],
        ray=True,
    )


def write_materials(root: Path, *, count: int, size: int) -> None:
    source = GeneratedSource(count=count, size=size, seed=0)
    path = root / shard_name(version=1, ordinal=0)
    materials = (source.load(entry) for entry in source.entries())
    info, rows = write_shard(path, materials, split_for=lambda material: "train")
    publish(root, shards=[info], rows=[rows], previous=None)


def run_side(side: str, setting: Setting) -> Step:
    """Run one side in a new process and return the sum over its ranks."""
    for left in ("phase", "ray"):
        shutil.rmtree(setting.root / left, ignore_errors=True)
    (setting.root / "phase").mkdir()
    results = [setting.root / f"rank{rank}.json" for rank in range(WORKERS)]
    for path in results:
        path.unlink(missing_ok=True)
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={WORKERS}"]
        if side == "torchrun"
        else []
    )
    options = ["--side", side, "--root", str(setting.root), "--steps", str(setting.steps)]
    command = [sys.executable, *launcher, str(Path(__file__).resolve()), *options]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
        env=os.environ | EQUAL_PRIORITY | MALLOC_SETTINGS | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    ranks = [RankResult(**json.loads(path.read_text())) for path in results]
    if len({rank.weights for rank in ranks}) > 1:
        sys.exit(f"{side}: got different weights on its ranks; expected equal ones.")
    steps = ranks[0].steps
    return Step(
        wall=ranks[0].wall / steps * 1e3,
        cpu=sum(rank.cpu for rank in ranks) / steps * 1e3,
        tree_cpu=ranks[0].tree_cpu / steps * 1e3,
        weights=ranks[0].weights,
    )


def report(found: Mapping[str, list[Step]]) -> None:
    goals = {"wall": Goal("at most", 1.05), "cpu": Goal("at most", 1.02), "tree_cpu": None}
    names = {"wall": "wall", "cpu": "CPU, workers", "tree_cpu": "CPU, all processes"}
    lines = []
    for clock, goal in goals.items():
        values = {side: [getattr(step, clock) for step in steps] for side, steps in found.items()}
        lines += [Line(f"{side}, {names[clock]}", Spread.of(values[side]), "ms/step") for side in values]
        ratio = Spread.of_ratios(values["Ray"], values["torchrun"])
        lines.append(Line(f"Ray : torchrun, {names[clock]}", ratio, "x", goal))
    show("A step of the same loop, two workers", lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50, help="steps of a run; the first 8 do not count")
    parser.add_argument("--quick", action="store_true", help="run one short pair, as a test")
    parser.add_argument("--side", choices=("Ray", "torchrun"), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    steps, pairs = (20, 1) if options.quick else (options.steps, options.pairs)
    if options.side:
        setting = Setting(options.root, options.steps)
        (ray_side if options.side == "Ray" else torchrun_side)(setting)
        return
    with tempfile.TemporaryDirectory(prefix="launchers-") as folder:
        setting = Setting(Path(folder), steps)
        write_materials(setting.root / "shards", count=14, size=256)
        found = interleaved(
            {side: partial(run_side, side, setting) for side in ("Ray", "torchrun")}, rounds=pairs, dropped=0
        )
    weights = {step.weights for steps in found.values() for step in steps}
    if len(weights) > 1:
        sys.exit("ray_vs_torchrun: got different weights; expected equal ones on both sides.")
    print(f"{pairs} pairs of {steps} steps, final weights equal bit for bit in every run.")
    report(found)


if __name__ == "__main__":
    main()

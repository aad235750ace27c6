"""Tests that two ranks with uneven parts of a batch equal one process with the full batch."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pbrlib.losses.collectives import all_reduce_sum
from pbrlib.losses.lossspec import LossSpec
from pbrlib.losses.recipe import Recipe
from pbrlib.losses.target import LossContext
from pbrlib.metrics.sums import Sums
from tests.gloo import gloo_rank, run_ranks
from tests.losses.conftest import IMAGE_LOSS, METALLIC_LOSS, SEGMENTATION_LOSS, image_batch, label_batch, part

LOSSES = {"image": IMAGE_LOSS, "metallic": METALLIC_LOSS, "segmentation": SEGMENTATION_LOSS}
PARTS = ((0, 1), (1, 5))
WEIGHTS = torch.linspace(0.5, 2.0, 7)


class Learner(nn.Module):
    """A network of one layer with its loss."""

    def __init__(self, declared, channels):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Conv2d(channels, channels, 3, padding=1)
        self.recipe = Recipe(LossSpec.model_validate(declared), LossContext(class_weights=WEIGHTS))

    def forward(self, x, target, step_counts=None):
        return self.recipe(self.network(x), target, step_counts=step_counts)


def prepared(kind):
    x, target = label_batch(5) if kind == "segmentation" else image_batch(5)
    return Learner(LOSSES[kind], x.shape[1]), x, target


def figures(learner, reports):
    gradients = [parameter.grad.clone() for parameter in learner.network.parameters()]
    return {
        "totals": [r.total.detach() for r in reports],
        "terms": [r.terms for r in reports],
        "grad": gradients,
    }


def whole(kind):
    learner, x, target = prepared(kind)
    report = learner(x, target)
    report.total.backward()
    return figures(learner, [report])


def rank_main(rank, folder):
    with gloo_rank(rank, folder=folder):
        found = {kind: on_rank(kind, PARTS[rank]) for kind in LOSSES}
        found["micro"] = micro_batches_on_rank("image", PARTS[rank])
        sums = Sums()
        sums.add_mean("val/all/l1", 1.0 + rank, 2)
        sums.add_mean(f"val/only-{rank}/l1", 3.0, 1)
        found["sums"] = sums.reduce(all_reduce_sum).results()
        found["empty"] = (sums if rank == 0 else Sums()).reduce(all_reduce_sum).results()
        torch.save(found, folder / f"{rank}.pt")


def on_rank(kind, ends):
    learner, x, target = prepared(kind)
    wrapped = DistributedDataParallel(learner)
    report = wrapped(x[slice(*ends)], part(target, *ends))
    report.total.backward()
    return figures(learner, [report])


def micro_batches_on_rank(kind, ends):
    """Two micro-batches a rank: of one sample and none on rank 0, of two and two on rank 1."""
    learner, x, target = prepared(kind)
    wrapped = DistributedDataParallel(learner)
    start, stop = ends
    middle = start + (stop - start + 1) // 2
    cuts = [(start, middle), (middle, stop)]
    step_counts = all_reduce_sum(sum(learner.recipe.counts(part(target, *cut)) for cut in cuts))
    reports = []
    for number, (first, last) in enumerate(cuts):
        with nullcontext() if number else wrapped.no_sync():
            report = wrapped(x[first:last], part(target, first, last), step_counts)
            report.total.backward()
        reports.append(report)
    return figures(learner, reports)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    run_ranks(rank_main, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("kind", LOSSES)
def test_uneven_parts_on_two_ranks_have_the_loss_and_gradient_of_the_full_batch(ranks, kind):
    expected = whole(kind)
    for rank in ranks:
        torch.testing.assert_close(rank[kind], expected)


def test_micro_batches_on_two_ranks_add_up_to_the_full_batch(ranks):
    expected = whole("image")
    for rank in ranks:
        torch.testing.assert_close(sum(rank["micro"]["totals"]), expected["totals"][0])
        torch.testing.assert_close(rank["micro"]["grad"], expected["grad"])


def test_metric_sums_of_ranks_with_different_metrics_are_joined(ranks):
    joined = {"val/all/l1": 0.75, "val/only-0/l1": 3.0, "val/only-1/l1": 3.0}
    assert [rank["sums"] for rank in ranks] == [joined, joined]


def test_rank_without_a_validation_texture_joins_the_reduction(ranks):
    alone = {"val/all/l1": 0.5, "val/only-0/l1": 3.0}
    assert [rank["empty"] for rank in ranks] == [alone, alone]


def test_all_reduce_is_the_identity_in_one_process():
    x = torch.rand(3)
    assert all_reduce_sum(x) is x

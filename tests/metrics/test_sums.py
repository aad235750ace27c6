import math

import pytest
import torch

from pbrlib.maps import CLASSES
from pbrlib.metrics.sums import Sums


def test_mean_over_uneven_batches_is_exact():
    sums = Sums()
    sums.add_mean("val/all/albedo/l1", torch.tensor(3.0), torch.tensor(10))
    sums.add_mean("val/all/albedo/l1", 1.0, 30)
    assert sums.results() == {"val/all/albedo/l1": 0.1}


def test_root_is_taken_of_the_mean_and_not_of_each_batch():
    sums = Sums()
    sums.add_root_mean("rmse", 4.0, 1)
    sums.add_root_mean("rmse", 0.0, 3)
    assert sums.results() == {"rmse": 1.0}


def test_metric_that_nothing_counted_for_is_absent():
    sums = Sums()
    sums.add_mean("l1", 0.0, 0)
    sums.add_confusion("seg", torch.zeros(7, 7, dtype=torch.long))
    assert sums.results() == {}


def test_iou_leaves_out_classes_without_a_true_pixel():
    matrix = torch.zeros(7, 7, dtype=torch.long)
    wood, stone, metal = (CLASSES.index(name) for name in ("wood", "stone", "metal"))
    matrix[wood, wood], matrix[wood, metal] = 6, 2
    matrix[stone, stone], matrix[stone, wood] = 3, 1
    sums = Sums()
    sums.add_confusion("val/all/segmentation", matrix)
    results = sums.results()
    assert results == pytest.approx(
        {
            "val/all/segmentation/iou/stone": 3 / 4,
            "val/all/segmentation/iou/wood": 6 / 9,
            "val/all/segmentation/miou": (3 / 4 + 6 / 9) / 2,
        }
    )


def test_merge_equals_adding_to_one():
    one, other, both = Sums(), Sums(), Sums()
    for sums in (one, both):
        sums.add_mean("a", 1.0, 2)
        sums.add_confusion("c", torch.eye(7, dtype=torch.long))
    for sums in (other, both):
        sums.add_mean("a", 5.0, 1)
        sums.add_mean("b", 1.0, 1)
    one.merge(other)
    assert one.results() == both.results()


def test_flat_and_load_are_inverse_and_fill_what_a_rank_lacks():
    one, other = Sums(), Sums()
    one.add_mean("a", 1.0, 2)
    other.add_mean("b", 3.0, 4)
    layout = tuple(sorted({*one.layout(), *other.layout()}))
    total = one.flat(layout) + other.flat(layout)
    assert Sums.load(total, layout=layout).results() == {"a": 0.5, "b": 0.75}


def test_sums_do_not_lose_small_parts_in_a_large_whole():
    sums = Sums()
    sums.add_mean("l1", 2.0**24, 1)
    sums.add_mean("l1", torch.tensor(1.0), 0)
    assert sums.results()["l1"] == 2.0**24 + 1


def test_sums_hold_no_graph():
    x = torch.ones(3, requires_grad=True)
    sums = Sums()
    sums.add_mean("l1", x.sum(), 3)
    assert not sums.flat().requires_grad


def test_reduce_asks_once():
    asked = []

    def double(x):
        asked.append(x)
        return 2 * x

    sums = Sums()
    sums.add_mean("l1", 1.0, 4)
    sums.add_root_mean("rmse", 1.0, 4)
    assert sums.reduce(double).results() == {"l1": 0.25, "rmse": 0.5}
    assert len(asked) == 1
    assert Sums().reduce(double).results() == {}


def test_value_that_is_not_finite_stays_visible():
    sums = Sums()
    sums.add_mean("l1", math.nan, 1)
    assert math.isnan(sums.results()["l1"])

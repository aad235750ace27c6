import numpy as np
import pytest

from pbrlib.metrics.bootstrap import bootstrap_interval


def test_interval_is_near_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(0.3, 0.1, size=400)
    found = bootstrap_interval(values.tolist())
    half = 1.96 * 0.1 / np.sqrt(400)
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half + 1e-3)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half + 1e-3)


def test_same_seed_gives_the_same_interval():
    values = np.random.default_rng(2).random(20).tolist()
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_one_value_is_its_own_interval():
    found = bootstrap_interval([0.5])
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_wider_confidence_is_a_wider_interval():
    values = [0.1, 0.4, 0.2, 0.9, 0.3]
    narrow, wide = (bootstrap_interval(values, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_nothing_has_no_mean():
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([])

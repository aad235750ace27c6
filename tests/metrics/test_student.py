from __future__ import annotations

import math

import pytest

from pbrlib.metrics.student import student_interval


def test_interval_of_three_repeats_is_the_textbook_one() -> None:
    found = student_interval([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.high - 2.0 == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    assert 2.0 - found.low == pytest.approx(found.high - 2.0)


@pytest.mark.parametrize(("repeats", "quantile"), [(12, 2.201), (31, 2.042), (121, 1.980)])
def test_quantile_past_the_table_is_students(repeats: int, quantile: float) -> None:
    values = [float(number % 2) for number in range(repeats)]
    found = student_interval(values)
    mean = sum(values) / repeats
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (repeats - 1))
    assert found.high - found.mean == pytest.approx(quantile * deviation / math.sqrt(repeats), rel=1e-3)


def test_one_repeat_says_nothing_about_the_next() -> None:
    assert student_interval([0.5]).high == math.inf


def test_no_repeat_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        student_interval([])

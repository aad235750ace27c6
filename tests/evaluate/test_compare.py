import pytest

from pbrlib.evaluate.compare import MIN_TEXTURES, Verdict, compare
from pbrlib.evaluate.scores import Scores


def scores_of(net: list[float], baselines: dict[str, list[float]], *, metric: str = "rmse") -> Scores:
    scores = Scores()
    for method, values in {"net": net, **baselines}.items():
        for number, value in enumerate(values):
            scores.values["ao"][metric][method][str(number)] = value
    return scores


def test_better_on_every_texture_is_better_for_sure() -> None:
    [found] = compare(scores_of([0.1] * 6, {"1": [0.2, 0.3, 0.2, 0.4, 0.2, 0.3]}))
    assert found.verdict is Verdict.BETTER
    assert found.differences["1"].mean == pytest.approx(-1 / 6)


def test_for_a_similarity_more_is_better() -> None:
    [found] = compare(scores_of([0.1] * 6, {"1": [0.2] * 6}, metric="ssim"))
    assert found.verdict is Verdict.NOT_BETTER


def test_one_lucky_texture_makes_nobody_sure() -> None:
    [found] = compare(scores_of([0.1] * 6, {"1": [0.05, 0.05, 0.05, 0.05, 0.05, 0.9]}))
    assert found.verdict is Verdict.BETTER_ON_AVERAGE


def test_few_textures_make_nobody_sure() -> None:
    [found] = compare(scores_of([0.1] * (MIN_TEXTURES - 1), {"1": [0.2] * (MIN_TEXTURES - 1)}))
    assert found.verdict is Verdict.BETTER_ON_AVERAGE


def test_losing_to_one_of_two_baselines_is_not_better_and_that_one_is_shown() -> None:
    [found] = compare(scores_of([0.2] * 6, {"weak": [0.9] * 6, "strong": [0.1] * 6}))
    assert found.verdict is Verdict.NOT_BETTER
    assert found.best_baseline == "strong"
    assert found.beaten_by == ("strong",)


def test_a_draw_is_not_better() -> None:
    [found] = compare(scores_of([0.2] * 6, {"same": [0.2] * 6}))
    assert found.verdict is Verdict.NOT_BETTER


def test_differences_are_of_the_textures_that_both_have() -> None:
    [found] = compare(scores_of([0.1, 0.1, 0.9], {"1 - gloss": [0.2, 0.2]}))
    assert found.differences["1 - gloss"].mean == pytest.approx(-0.1)


def test_a_figure_without_baseline_claims_nothing() -> None:
    [found] = compare(scores_of([0.1] * 6, {}))
    assert found.verdict is Verdict.NO_BASELINE
    assert found.best_baseline is None


def test_the_verdict_of_an_older_evaluation_can_be_read() -> None:
    assert Verdict("ahead of all, unsure") is Verdict.BETTER_ON_AVERAGE
    for verdict in Verdict:
        assert Verdict(verdict.value) is verdict
    with pytest.raises(ValueError, match="is not a valid Verdict"):
        Verdict("excellent")

"""Every rival of a reading changes the loss term that it names, and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from pbrlib.curriculum.config.load import load_curriculum
from pbrlib.losses import entropies, gradients, reprojection

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "comparisons"))

import readings


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the functions that a rival replaces."""
    for module, name in ((reprojection, "fitted_relief"), (gradients, "grad_diff"), (entropies, "focal")):
        monkeypatch.setattr(module, name, getattr(module, name))


def test_an_unscaled_normal_depends_on_the_size_of_the_height() -> None:
    height = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 0.1
    normal = torch.nn.functional.normalize(torch.tensor([0.3, 0.1, 1.0]), dim=0).view(1, 3, 1, 1)
    normal, valid = normal.expand(2, 3, 16, 16), torch.ones(2, 1, 16, 16, dtype=torch.bool)
    readings.unscaled()
    low, high = (reprojection.normal_reproj(height * size, normal, valid).mean() for size in (1.0, 5.0))
    assert high > low + 1e-3


def test_unsigned_differences_do_not_distinguish_a_bump_from_a_dent() -> None:
    bump = torch.zeros(1, 1, 8, 8)
    bump[..., 4, 4] = 1.0
    assert all(part.sum() > 0 for part in gradients.grad_diff(bump, -bump))
    readings.unsigned()
    assert all(part.sum() == 0 for part in gradients.grad_diff(bump, -bump))
    assert all(part.sum() > 0 for part in gradients.grad_diff(bump, 2 * bump))


def test_the_focal_term_alone_loses_the_class_weights() -> None:
    log_p = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(2)).log_softmax(dim=1)
    labels, weights, gammas = torch.ones(1, 4, 4).long(), torch.tensor([1.0, 3.0, 1.0]), torch.full((3,), 2.0)
    weighted = entropies.focal(log_p, labels, class_weights=weights, gammas=gammas)
    readings.unweighted()
    plain = entropies.focal(log_p, labels, class_weights=weights, gammas=gammas)
    torch.testing.assert_close(plain * 3.0, weighted)
    entropy = entropies.cross_entropy(log_p, labels, class_weights=weights)
    torch.testing.assert_close(entropy, -3.0 * log_p[:, 1])


@pytest.mark.parametrize("family", readings.RIVALS)
def test_every_rival_is_an_override_of_a_curriculum_that_exists(family: str) -> None:
    for rival in readings.RIVALS[family].values():
        curriculum = load_curriculum(readings.CONFIGS / f"{family}.yaml", overrides=rival.overrides)
        assert len(curriculum.phases) == 1


def test_the_value_of_a_texture_is_its_mean_over_the_seeds(tmp_path: Path) -> None:
    for variant, values in (("reading", (0.1, 0.3)), ("with gloss", (0.2, 0.2))):
        for seed, value in enumerate(values):
            file = readings.folder_of(tmp_path, "roughness", variant, seed) / "evaluation" / "evaluation.json"
            file.parent.mkdir(parents=True)
            figures = {"roughness": {"mae": {"net": {"a": value, "b": 2 * value}, "1 - gloss": {"a": 1.0}}}}
            file.write_text(json.dumps({"per_texture": figures, "confusions": {}}))
    scores = readings.scores_over(tmp_path, "roughness", ("reading", "with gloss"), (0, 1))
    found = scores.values["roughness"]["mae"]
    assert set(found) == {"net", "with gloss"}
    assert found["net"] == pytest.approx({"a": 0.2, "b": 0.4})
    assert found["with gloss"] == pytest.approx({"a": 0.2, "b": 0.4})

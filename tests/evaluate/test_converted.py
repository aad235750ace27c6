import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from click.testing import CliRunner

from pbrlib.convert.oldtree import bake_tree
from pbrlib.convert.truepbr import PbrMaps, write_texture
from pbrlib.data.sources.folder import FolderSource
from pbrlib.data.sources.generated import GeneratedSource
from pbrlib.errors import DataError
from pbrlib.evaluate.compare import compare
from pbrlib.evaluate.converted import choose, read_index, score_converted
from pbrlib.evaluate.evaluationreport import Evaluation
from pbrlib.maps import TRUE_PBR
from pbrlib.textures.decode import read_picture
from ray_jobs.cli import main

SOURCE = GeneratedSource(count=7, size=64, seed=4)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("old")
    bake_tree(SOURCE, output=root)
    return root


@pytest.fixture(scope="module")
def converted(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conversion that knows the truth; the last texture is missing."""
    root = tmp_path_factory.mktemp("new")
    for item, entry in list(zip(read_index(tree / "index.json"), SOURCE.entries(), strict=True))[:-1]:
        maps = SOURCE.load(entry).maps
        white = np.full((64, 64, 1), 255, np.uint8)
        name = PurePosixPath(item.diffuse).relative_to("textures").with_suffix("")
        rows = (maps["height"].astype(float) / 257).round().astype(np.uint8)
        pbr = PbrMaps(
            albedo=np.concatenate((maps["albedo"], white), axis=-1),
            normal=maps["normal"],
            roughness=maps["roughness"],
            metallic=maps["metallic"],
            ao=maps["ao"],
            height=rows,
        )
        write_texture(root, name, name, pbr)
    return root


def scored(converted: Path, tree: Path, *, only: Sequence[str] = ()) -> Evaluation:
    @cache
    def materials(size: int) -> FolderSource:
        return FolderSource(str(tree / "materials"), size=size)

    return score_converted(
        converted, index=tree / "index.json", materials=materials, read=read_picture, only=only
    )


def test_a_conversion_that_knows_the_truth_is_as_good_as_its_compression(converted: Path, tree: Path) -> None:
    found = {(each.map, each.metric): each for each in compare(scored(converted, tree).scores)}
    assert {name for name, _ in found} == set(TRUE_PBR)
    for name in TRUE_PBR:
        assert found[name, "mae"].methods["net"].mean < 0.02, name
    assert not found["albedo", "rmse"].beaten_by
    assert set(found["albedo", "rmse"].differences) == {"diffuse", "diffuse x fitted gain"}
    assert set(found["roughness", "rmse"].differences) == {"1 - gloss"}
    assert set(found["metallic", "rmse"].differences) == {"0"}
    assert set(found["ao", "rmse"].differences) == {"1"}


def test_what_was_not_converted_is_reported(converted: Path, tree: Path) -> None:
    last = SOURCE.entries()[-1].id
    found = scored(converted, tree)
    assert found.about["not_converted"] == [last]
    assert any(last in note for note in found.notes)
    assert {each.num_textures for each in compare(found.scores) if each.map == "albedo"} == {6}
    with pytest.raises(DataError, match="got none of the 1 textures"):
        scored(converted, tree, only=[last])


def test_the_gain_is_fitted_on_what_is_not_scored(converted: Path, tree: Path) -> None:
    names = [entry.id for entry in SOURCE.entries()]
    found = scored(converted, tree, only=names[:2])
    assert found.about["textures"] == names[:2]
    assert found.about["albedo_gain"]["textures"] == 5
    assert "textures not scored" in found.about["albedo_gain"]["fitted_on"]
    assert "themselves" in scored(converted, tree).about["albedo_gain"]["fitted_on"]


def test_a_pattern_that_matches_nothing_is_refused_with_a_suggestion(tree: Path) -> None:
    indexed = read_index(tree / "index.json")
    with pytest.raises(DataError, match=f"--only: got {indexed[0].id[1:]}; .*Did you mean {indexed[0].id}"):
        choose(indexed, [indexed[0].id[1:]])


def test_an_index_of_another_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text(json.dumps([{"id": "a", "diffuse": "a.dds"}]))
    with pytest.raises(DataError, match=r"index\.json: 0\.normal: "):
        read_index(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_index(tmp_path / "nothing.json")


def test_the_command_scores_and_writes_figures_and_pictures(
    converted: Path, tree: Path, tmp_path: Path
) -> None:
    arguments = ["score", str(converted), "--index", str(tree / "index.json")]
    arguments += ["--materials", str(tree / "materials"), "--out", str(tmp_path / "score.json")]
    result = CliRunner().invoke(main, [*arguments, "--only", "wood*", "--only", "stone*"])
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "score.json").read_text())
    assert len(content["textures"]) == 2
    assert "metallic" in content["maps"]
    assert (tmp_path / "contact-1.png").is_file()
    assert "roughness" in result.stdout


def test_the_command_bakes(tmp_path: Path) -> None:
    arguments = ["bake", "generated:count=1,size=32,seed=1", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "1 textures" in result.stdout
    assert (tmp_path / "materials" / "manifest.json").is_file()

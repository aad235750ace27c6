"""``pbr score CONVERTED``: a converted tree against the maps its old textures were made of; no Ray."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import click

from pbrlib.errors import DataError
from ray_jobs.commands.paramtypes import LocalOrS3Path
from ray_jobs.output import check_file, print_evaluation

_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command("score")
@click.argument("converted", type=_FOLDER)
@click.option(
    "--index",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The index.json of pbr bake, which maps textures to materials.",
)
@click.option(
    "--materials",
    metavar="DIR",
    required=True,
    type=_FOLDER,
    help="Folder of the materials that the index names.",
)
@click.option(
    "--only",
    metavar="PATTERN",
    multiple=True,
    help="Material ids to score; * matches any text; may be repeated. Default: all.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=LocalOrS3Path(dir_okay=False),
    help="Output JSON file; pictures are written beside it. Default: CONVERTED/evaluation.json.",
)
def command(
    *, converted: Path, index: Path, materials: Path, only: tuple[str, ...], out: Path | None
) -> None:
    """Score the True PBR textures in CONVERTED against ground truth, with the old textures as baseline."""
    check_file(out or converted / "evaluation.json", option="--out")
    if not index.is_file():
        raise DataError(
            f"--index: got {index}, which is not a file; expected the index.json beside the old tree. "
            "Give its path."
        )
    from pbrlib.data.sources.folder import FolderSource
    from pbrlib.evaluate.converted import score_converted
    from pbrlib.evaluate.evaluationreport import FILE
    from pbrlib.textures.decode import read_picture
    from ray_jobs.bar import show_progress

    @cache
    def source(size: int) -> FolderSource:
        return FolderSource(str(materials), size=size)

    with show_progress("score") as watch:
        evaluation = score_converted(
            converted,
            index=index,
            materials=source,
            read=read_picture,
            only=only,
            watch=watch,
        )
    files = evaluation.write(out or converted / FILE)
    print_evaluation(evaluation, files)

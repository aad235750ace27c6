"""``pbr shards inspect``: shows the contents of a shard set as tables and as a picture, without Ray."""

from __future__ import annotations

from pathlib import Path

import click

from ray_jobs.commands.paramtypes import LocalOrS3Path


@click.group("shards")
def shards() -> None:
    """Inspect a shard set."""


@shards.command("inspect")
@click.argument("location", metavar="SHARDS")
@click.option(
    "--contact-sheet",
    metavar="PNG",
    type=LocalOrS3Path(dir_okay=False),
    help="Save a picture of sample materials to this file.",
)
@click.option(
    "--rows", default=21, show_default=True, type=click.IntRange(1), help="Materials on the contact sheet."
)
@click.option("--verify", is_flag=True, help="Read every shard and compare its checksum.")
def inspect(*, location: str, contact_sheet: Path | None, rows: int, verify: bool) -> None:
    """Show counts, classes, sizes and maps of a shard set, and a contact sheet of samples.

    Exit code 2 if the set cannot be read, or --verify finds a damaged shard; all of them are named.
    """
    from pbrlib.data.shards.reader import ShardSet
    from ray_jobs.bar import Console
    from ray_jobs.output import check_file
    from ray_jobs.shardview import balance_table, counts_table, join_counts, maps_table, write_contact_sheet

    if contact_sheet is not None:
        check_file(contact_sheet, option="--contact-sheet")
    opened = ShardSet.open(location)
    console = Console()
    manifest = opened.manifest
    num_bytes = sum(info.bytes for info in manifest.shards)
    console.print(
        f"{location}: version {manifest.version}, {len(opened.rows)} materials, "
        f"{len(manifest.shards)} shards, {num_bytes / 2**20:.1f} MiB, fingerprint {opened.fingerprint[:12]}"
    )
    if verify:
        opened.verify()
        console.print(f"checksums: all {len(manifest.shards)} shards are as they were written")
    console.print(f"sizes: {join_counts(manifest.sizes)}")
    console.print(counts_table(opened.rows))
    console.print(balance_table(opened.rows))
    console.print(maps_table(opened.rows))
    if contact_sheet is not None:
        write_contact_sheet(opened, contact_sheet, most=rows)
        console.print(f"contact sheet: {contact_sheet}")

"""Coverage-guided fuzzing of what reads files from outside: ``make fuzz``.

Every target runs in a process of its own, which may take ``ROOM_BYTES`` beyond what it has once it is
loaded, and ``CASE_S`` a case. The first case whose oracle does not hold ends the run; it is kept in
``.fuzz``, and ``python -m tests.fuzz.run --replay FILE`` tries it again. Inputs that got further than those
before them, accepted ones and refused ones, are kept in ``.fuzz/TARGET``: the next run begins from them and
the seeds.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MISSING = (
    "make fuzz needs atheris, and this Python has none. It has wheels for Linux on x86-64, Python 3.11 to\n"
    "3.13, where make install brings it: run make fuzz there."
)
SHARES = {"dds": 0.5, "tile": 0.5, "picture": 0.1}
"""Of the cases: the texture reader and the tile codec divide them, pictures come on top."""

ROOM_BYTES = 256 << 20
CASE_S = 5
KEPT = Path(".fuzz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cases", type=int, default=1_000_000, help="of dds and tile together; pictures add a tenth"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, metavar="FILE")
    parser.add_argument("--target", choices=SHARES, help="only this one")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given, rest = parser.parse_known_args()
    if given.child:
        _fuzz(given.target, rest)
    elif given.replay:
        from tests.fuzz.oracles import ORACLES

        accepted = ORACLES[given.replay.name.split("-")[0]](given.replay.read_bytes())
        print("accepted" if accepted else "refused")
    else:
        _check_installed()
        shares = {given.target: 1.0} if given.target else SHARES
        counts = {name: round(given.cases * share) for name, share in shares.items()}
        rows = [_run(name, cases, seed=given.seed) for name, cases in counts.items()]
        _print_sum(rows)


def _check_installed() -> None:
    try:
        import atheris  # noqa: F401
    except ImportError:
        sys.exit(MISSING)


def _run(target: str, cases: int, *, seed: int) -> tuple[int, float]:
    """Fuzzes one target; prints what came of it, and returns its cases and seconds."""
    from tests.fuzz.seeds import SEEDS

    corpus = KEPT / target
    corpus.mkdir(parents=True, exist_ok=True)
    memory = Path("/dev/shm")  # where there is one, a case costs a third
    with tempfile.TemporaryDirectory(prefix="pbr-fuzz-", dir=memory if memory.is_dir() else None) as folder:
        seeds = Path(folder) / "seeds"
        seeds.mkdir()
        for number, case in enumerate(SEEDS[target]()):
            (seeds / f"seed-{number}").write_bytes(case)
        libfuzzer = [
            f"-runs={cases}",
            f"-seed={seed}",
            f"-timeout={CASE_S}",
            "-max_len=2048",
            "-print_final_stats=1",
            f"-artifact_prefix={KEPT}/{target}-",
            str(corpus),  # the first is written to
            str(seeds),
        ]
        command = [sys.executable, "-m", "tests.fuzz.run", "--child", "--target", target, *libfuzzer]
        began = time.monotonic()
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env={**os.environ, "TMPDIR": folder}
        )
        seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"{done.stderr[-6000:]}\n{target}: an oracle does not hold; the case is in {KEPT}")
    executed = int(re.findall(r"number_of_executed_units:\s*(\d+)", done.stderr)[-1])
    last = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", done.stderr)[-1]
    print(
        f"{target:7} {executed:>9} cases  accepted {done.stdout.strip():>7}  coverage {last[0]:>4}"
        f"  features {last[1]:>5}  corpus {last[2]:>4}  {seconds:7.0f} s",
        flush=True,
    )
    return executed, seconds


def _print_sum(rows: list[tuple[int, float]]) -> None:
    print(
        f"{'all':7} {sum(cases for cases, _ in rows):>9} cases, every oracle held,"
        f" {sum(seconds for _, seconds in rows):.0f} s"
    )


def _fuzz(target: str, libfuzzer: list[str]) -> None:
    """The child: does not return."""
    import atheris

    with atheris.instrument_imports(
        include=[
            "pbrlib.textures",
            "pbrlib.data.shards.codec",
            *(f"PIL.{name}ImagePlugin" for name in ("Png", "Jpeg", "Tga", "Bmp", "WebP")),
        ]
    ):
        from tests.fuzz.oracles import ORACLES
        from tests.fuzz.seeds import SEEDS
    oracle = ORACLES[target]
    for case in SEEDS[target]():  # loads what is imported at the first use
        assert oracle(case), "a seed is refused"
    num_pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = num_pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    total, tried, accepted = int(libfuzzer[0].removeprefix("-runs=")), 0, 0

    def count(case: bytes) -> None:
        nonlocal tried, accepted
        tried, accepted = tried + 1, accepted + oracle(case)
        if tried == total:
            print(accepted, flush=True)  # libFuzzer ends the process without a goodbye

    atheris.Setup([sys.argv[0], *libfuzzer], count)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

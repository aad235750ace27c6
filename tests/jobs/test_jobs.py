import json
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pbrlib import storage
from pbrlib.errors import DataError
from pbrlib.jobs.inorder import run_in_order
from pbrlib.jobs.job import DefectError, Failure, Job, JobOutput, Success, describe_failures, fingerprint
from pbrlib.jobs.record import RECORDS, finished_outcome, remove_records, run_job
from tests.jobs.work import calls, divide, job, refuse, write, writing


def run(root: Path, *jobs: Job) -> list[Success | Failure]:
    return list(run_in_order(jobs, root=root))


def records(root: Path) -> list[Path]:
    return sorted((root / RECORDS).iterdir())


def test_jobs_run_in_order_and_a_second_run_reuses_them(tmp_path: Path) -> None:
    jobs = [writing(tmp_path, name) for name in ("c", "a", "b")]
    first, second = run(tmp_path, *jobs), run(tmp_path, *jobs)
    assert calls(tmp_path) == ["c", "a", "b"]
    result = {"length": 4, "parts": [1, 2]}
    assert first == [Success(name, result) for name in "cab"]
    assert second == [Success(name, result, reused=True) for name in "cab"]


def test_jobs_are_read_from_the_iterable_one_at_a_time(tmp_path: Path) -> None:
    taken: list[int] = []

    def jobs():
        for number in range(3):
            taken.append(number)
            yield writing(tmp_path, str(number))

    outcomes = run_in_order(jobs(), root=tmp_path)
    next(outcomes)
    assert taken == [0]


def test_a_job_with_another_fingerprint_is_repeated(tmp_path: Path) -> None:
    run(tmp_path, writing(tmp_path, "a"))
    assert run(tmp_path, writing(tmp_path, "a", text="other", fingerprint="2"))[0] == Success(
        "a", {"length": 5, "parts": [1, 2]}
    )
    assert (tmp_path / "out/a.txt").read_text() == "other"
    assert finished_outcome(writing(tmp_path, "a"), root=tmp_path) is None


def remove(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def alter(file: Path) -> None:
    """Rewrite a file with other content of the same length, at a later time."""
    file.write_text("tex!")
    os.utime(file, (0, 0))


@pytest.mark.parametrize("damage", [remove, cut, alter])
def test_a_job_with_a_missing_or_changed_file_is_repeated(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    jobs = [writing(tmp_path, name) for name in ("a", "b")]
    run(tmp_path, *jobs)
    damage(tmp_path / "out/a.txt")
    assert [outcome.reused for outcome in run(tmp_path, *jobs)] == [False, True]
    assert (tmp_path / "out/a.txt").read_text() == "text"


def test_a_copied_tree_is_reused(tmp_path: Path) -> None:
    """Copying changes the modification times of files, but not their content."""
    run(tmp_path, writing(tmp_path, "a"))
    os.utime(tmp_path / "out/a.txt", (0, 0))
    assert isinstance(finished_outcome(writing(tmp_path, "a"), root=tmp_path), Success)


@settings(max_examples=30)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_record_with_a_changed_byte_is_ignored_or_equal(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    root = tmp_path_factory.mktemp("damaged")
    (before,) = run(root, writing(root, "a"))
    (file,) = records(root)
    data = bytearray(file.read_bytes())
    data[position % len(data)] ^= flip
    file.write_bytes(data)
    found = finished_outcome(writing(root, "a"), root=root)
    assert found is None or found.result == before.result
    (again,) = run(root, writing(root, "a"))
    assert again.result == before.result


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"content": {}, "sha256": 3}'])
def test_a_job_with_an_invalid_record_is_repeated(tmp_path: Path, text: str) -> None:
    run(tmp_path, writing(tmp_path, "a"))
    records(tmp_path)[0].write_text(text)
    assert run(tmp_path, writing(tmp_path, "a"))[0].reused is False


def test_a_job_killed_before_its_record_is_repeated(tmp_path: Path) -> None:
    write(tmp_path, "a", "text")
    assert run(tmp_path, writing(tmp_path, "a"))[0].reused is False


def test_a_failure_affects_only_its_job_and_is_repeated(tmp_path: Path) -> None:
    jobs = [
        writing(tmp_path, "a"),
        job("bad", partial(refuse, "bad.png: cut short. Replace it.")),
        job("odd", partial(divide, tmp_path, "odd")),
        writing(tmp_path, "b"),
    ]
    first = run(tmp_path, *jobs)
    assert [type(outcome) for outcome in first] == [Success, Failure, Failure, Success]
    assert first[1] == Failure("bad", "refused", "bad.png: cut short. Replace it.")
    assert (first[2].kind, first[2].reason) == ("defect", "ZeroDivisionError: division by zero")
    assert "in divide" in first[2].traceback
    run(tmp_path, *jobs)
    assert calls(tmp_path) == ["a", "odd", "b", "odd"]


def test_only_failures_by_defects_are_listed_with_tracebacks(tmp_path: Path) -> None:
    failures = run(tmp_path, job("bad", partial(refuse, "cut short")), job("odd", lambda: 1 / 0))
    text = describe_failures(failures)
    assert text.startswith("left out: bad: cut short\nleft out: odd: ZeroDivisionError: division by zero\n")
    assert text.count("Traceback") == 1
    assert isinstance(failures[0].error(), DataError)
    assert isinstance(failures[1].error(), DefectError)


def test_a_job_that_lists_an_unwritten_file_is_a_defect(tmp_path: Path) -> None:
    (found,) = run(tmp_path, job("liar", lambda: JobOutput(("nothing.txt",), {})))
    assert (found.kind, records_of(tmp_path)) == ("defect", [])


def test_a_result_that_is_not_json_is_a_defect(tmp_path: Path) -> None:
    (found,) = run(tmp_path, job("nan", lambda: JobOutput((), {"x": float("nan")})))
    assert (found.kind, records_of(tmp_path)) == ("defect", [])


def records_of(root: Path) -> list[Path]:
    return records(root) if (root / RECORDS).exists() else []


def test_an_interrupt_ends_the_run(tmp_path: Path) -> None:
    def interrupt() -> JobOutput:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, job("a", interrupt), writing(tmp_path, "b"))
    assert calls(tmp_path) == []


@settings(max_examples=30)
@given(names=st.lists(st.text(min_size=1), unique=True, max_size=6))
def test_jobs_of_any_names_have_separate_records(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    root = tmp_path_factory.mktemp("names")
    jobs = [job(name, lambda: JobOutput((), {})) for name in names]
    assert [outcome.name for outcome in run(root, *jobs)] == names
    assert all(outcome.reused for outcome in run(root, *jobs))
    assert len(records_of(root)) == len(names)


def test_a_name_as_long_as_a_path_has_a_record(tmp_path: Path) -> None:
    name = "/".join(["folder"] * 100)
    assert isinstance(run(tmp_path, job(name, lambda: JobOutput((), {})))[0], Success)


def test_records_are_indented_json(tmp_path: Path) -> None:
    run(tmp_path, writing(tmp_path, "wall 01"))
    (file,) = records(tmp_path)
    assert file.name.startswith("wall_01-")
    content = json.loads(file.read_text())["content"]
    assert (content["name"], content["files"][0]["path"]) == ("wall 01", "out/wall 01.txt")


def test_jobs_without_records_are_repeated(tmp_path: Path) -> None:
    run(tmp_path, writing(tmp_path, "a"))
    remove_records(tmp_path)
    assert run(tmp_path, writing(tmp_path, "a"))[0].reused is False


def test_jobs_write_files_and_records_to_s3(bucket: str) -> None:
    place = storage.to_path(f"{bucket}/out")

    def put() -> JobOutput:
        storage.write_atomic(place / "a.bin", b"text")
        return JobOutput(("a.bin",), {})

    one = job("a", put)
    assert [run_job(one, root=place), finished_outcome(one, root=place)] == [
        Success("a", {}),
        Success("a", {}, reused=True),
    ]
    storage.write_atomic(place / "a.bin", b"texts")
    assert finished_outcome(one, root=place) is None


def test_fingerprints_depend_on_every_part() -> None:
    prints = [fingerprint("a", "b"), fingerprint("ab"), fingerprint(["a", "b"]), fingerprint("a", 1)]
    assert len(set(prints)) == len(prints)
    assert fingerprint({"x": 1, "y": 2}) == fingerprint({"y": 2, "x": 1})


def test_outcomes_can_be_pickled(tmp_path: Path) -> None:
    outcomes = run(tmp_path, writing(tmp_path, "a"), job("odd", lambda: 1 / 0))
    assert pickle.loads(pickle.dumps(outcomes)) == outcomes

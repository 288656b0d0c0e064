"""Writing: copies inside the kernel and without it, and errors of one thread."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest
from patience import PATIENCE, until

from bertconv import average_checkpoints, check_checkpoint
from bertconv.convert import convert_checkpoint
from bertconv.errors import BertconvError, DamagedCheckpoint, OutputError
from bertconv.formats import interrupts, ranges, workers, writing
from bertconv.formats.initial import initial_values
from bertconv.formats.staging import StagedFolder
from bertconv.report import Report

HEAD = "BertForMaskedLM"
COPY = os.copy_file_range


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return cp.save(tmp_path / "in", HEAD, cp.state_dict(HEAD))


def fails_with(code: int, after: int = 0) -> Callable[..., int]:
    """copy_file_range that fails from the call of this number on."""
    calls = 0

    def copy(*arguments: Any) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(code, os.strerror(code))
        return COPY(*arguments)

    return copy


# Copies inside the kernel


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM])
@pytest.mark.parametrize("after", [0, 5])
@pytest.mark.parametrize("form", ["pt", "tf"])
def test_kernel_that_does_not_copy(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, after: int, form: str
) -> None:
    """From the beginning, or in the midst of a run."""
    convert_checkpoint(src, tmp_path / "with", to=form, verify="none")
    monkeypatch.setattr(os, "copy_file_range", fails_with(code, after))
    monkeypatch.setattr(ranges, "PART", 1000)
    convert_checkpoint(src, tmp_path / "without", to=form, verify="none")
    assert cp.snapshot(tmp_path / "without") == cp.snapshot(tmp_path / "with")


def test_kernel_that_copies_a_little_at_a_time(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(source: int, target: int, length: int, *offsets: int) -> int:
        return COPY(source, target, min(length, 97), *offsets)

    monkeypatch.setattr(os, "copy_file_range", copy)
    monkeypatch.setattr(ranges, "PART", 1000)
    convert_checkpoint(src, tmp_path / "out", to="pt", verify="none")
    cp.assert_same(cp.written(tmp_path / "out"), cp.state_dict(HEAD))


def test_writes_that_are_short(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "copy_file_range", fails_with(errno.ENOSYS))
    monkeypatch.setattr(os, "pwrite", lambda fd, content, offset: pwrite(fd, content[:101], offset))
    convert_checkpoint(src, tmp_path / "out", to="tf")
    cp.assert_same(cp.written(tmp_path / "out"), cp.tf_state(cp.state_dict(HEAD)))


def test_reads_that_are_short(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preadv = os.preadv

    def short(fd: int, buffers: list[Any], offset: int) -> int:
        return preadv(fd, [memoryview(buffers[0])[:89]], offset)

    monkeypatch.setattr(os, "preadv", short)
    convert_checkpoint(src, tmp_path / "out", to="tf")
    cp.assert_same(cp.written(tmp_path / "out"), cp.tf_state(cp.state_dict(HEAD)))


def refused(kind: type[BertconvError], src: Path, out: Path, **options: Any) -> BertconvError:
    before = cp.snapshot(out.parent)
    with pytest.raises(kind) as caught:
        convert_checkpoint(src, out, **{"to": "pt", **options})
    assert cp.snapshot(out.parent) == before
    return caught.value


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("after", [0, 7])
def test_copies_that_fail(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, after: int) -> None:
    monkeypatch.setattr(os, "copy_file_range", fails_with(code, after))
    monkeypatch.setattr(ranges, "PART", 1000)
    assert os.strerror(code) in str(refused(OutputError, src, tmp_path / "out", verify="none"))


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize(
    ("name", "form"), [("pwrite", "tf"), ("fsync", "tf"), ("fsync", "pt"), ("fdatasync", "tf"), ("ftruncate", "pt")]
)
def test_writes_that_fail(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str, form: str
) -> None:
    called, copy = threading.Event(), ranges.copy

    def refuse(*_: object) -> None:
        called.set()
        raise OSError(code, os.strerror(code))

    def late(*arguments: Any) -> Any:
        assert called.wait(PATIENCE)
        return copy(*arguments)

    if name == "fdatasync":  # called from time to time while the weights are written
        monkeypatch.setattr(writing, "FLUSH_SECONDS", 0.001)
        monkeypatch.setattr(ranges, "copy", late)
    monkeypatch.setattr(os, name, refuse)
    assert os.strerror(code) in str(refused(OutputError, src, tmp_path / "out", to=form))


# Sources that change


def test_source_that_ends_early(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(*arguments: Any) -> int:
        os.truncate(src / "model.safetensors", 9000)
        return COPY(*arguments)

    monkeypatch.setattr(os, "copy_file_range", copy)
    with pytest.raises(
        DamagedCheckpoint, match=r"ends at byte (9|\d\d),\d{3}"
    ) as caught:  # two threads: either's place
        convert_checkpoint(src, tmp_path / "out", to="pt", verify="none")
    assert caught.value.tensor in cp.state_dict(HEAD)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["appended", "touched"])
def test_source_that_is_modified(src: Path, tmp_path: Path, change: str) -> None:
    path = src / "model.safetensors"

    def progress(step: str, *_: int) -> None:
        if step == "verifying":
            if change == "appended":
                with path.open("ab") as file:
                    file.write(b"x")
            else:
                os.utime(path, ns=(0, 0))

    with pytest.raises(DamagedCheckpoint, match="modified"):
        convert_checkpoint(src, tmp_path / "out", to="pt", progress=progress)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "make",
    [lambda src, out: convert_checkpoint(src, out, to="tf"), lambda src, out: average_checkpoints([src, src], out)],
    ids=["convert", "average"],
)
def test_source_that_is_modified_when_all_is_done(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path, Path], Report]
) -> None:
    """The output is in its place by then: an error would say that there is none."""
    commit = StagedFolder.commit

    def commit_and_touch(staged: StagedFolder) -> None:
        commit(staged)
        os.utime(src / "model.safetensors", ns=(0, 0))

    monkeypatch.setattr(StagedFolder, "commit", commit_and_touch)
    assert make(src, tmp_path / "out").verified == "weights"
    assert check_checkpoint(tmp_path / "out").ok


# Two threads


def test_results_are_in_the_order_of_the_jobs() -> None:
    jobs = [3, 1, 4, 1, 5, 9, 2, 6]
    ticks: list[int] = []

    def work(job: int, _: object, tick: workers.Tick) -> int:
        tick(job)
        return job * job

    assert workers.run(jobs, work, ticks.append, lambda job: (0, -job)) == [job * job for job in jobs]
    assert sum(ticks) == sum(jobs)
    assert workers.run([], work, ticks.append, lambda job: (0, -job)) == []


def test_an_error_stops_the_other_thread_and_is_the_one_raised() -> None:
    ticked, pause = threading.Event(), threading.Event()
    stopped: list[int] = []

    def work(job: int, _: object, tick: workers.Tick) -> None:
        if job == 9:
            assert ticked.wait(PATIENCE)
            raise ValueError("the cause")
        for _ in range(1_000_000):
            try:
                tick(1)
            except Exception:
                stopped.append(job)
                raise
            ticked.set()
            pause.wait(PATIENCE / 1_000_000)

    with pytest.raises(ValueError, match="the cause"):
        workers.run([1, 9, 2, 3], work, lambda _: None, lambda job: (0, -job))
    assert 3 in stopped


def test_two_errors_raise_one_of_them() -> None:
    def work(job: int, *_: object) -> None:
        raise ValueError(f"number {job}")

    with pytest.raises(ValueError, match="number"):
        workers.run([1, 2, 3], work, lambda _: None, lambda job: (0, -job))


def test_a_signal_that_does_not_wake_the_main_thread() -> None:
    """It may come just before that begins to wait; here another thread takes it, which wakes nobody either."""

    main = threading.get_ident()

    def frames() -> list[str]:
        return [frame.f_code.co_name for frame, _ in traceback.walk_stack(sys._current_frames()[main])][:3]

    def work(number: int, _: object, __: object) -> int:
        until(lambda: frames() == ["wait"] * 3)  # of the futures, their event, and its condition
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        until(lambda: interrupts.pending)
        return number

    with pytest.raises(KeyboardInterrupt), interrupts.held_back():
        assert workers.run([7], work, lambda _: None, lambda number: (0, number)) == [7]


@pytest.mark.parametrize("step", ["writing", "verifying"])
def test_an_error_in_the_progress(src: Path, tmp_path: Path, step: str) -> None:
    def progress(now: str, done: int, _: int) -> None:
        if now == step and done > 20_000:
            raise ZeroDivisionError("the caller's own")

    before = cp.snapshot(tmp_path)
    with pytest.raises(ZeroDivisionError, match="the caller's own"):
        convert_checkpoint(src, tmp_path / "out", to="tf", progress=progress)
    assert cp.snapshot(tmp_path) == before


@pytest.mark.parametrize("form", ["pt", "tf"])
@pytest.mark.parametrize("dtype", ["keep", "float16"])
def test_progress_counts_every_byte_once(src: Path, tmp_path: Path, form: str, dtype: str) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    report = convert_checkpoint(
        src, tmp_path / "out", to=form, dtype=dtype, progress=lambda step, *each: seen.setdefault(step, []).append(each)
    )
    read = sum(value.nbytes for value in cp.state_dict(HEAD).values())
    totals = {"writing": report.nbytes, "verifying": report.nbytes} | ({} if dtype == "keep" else {"hashing": read})
    for step, calls in seen.items():
        assert [done for done, _ in calls] == sorted(done for done, _ in calls), step
        assert {total for _, total in calls} == {totals[step]}
        assert calls[-1] == (totals[step], totals[step])
    assert seen.keys() == totals.keys()


# Fresh values


@pytest.mark.parametrize("dtype", cp.FLOATS)
def test_initial_values(dtype: str) -> None:
    def values(role: str, seed: str = "pooler.dense.weight") -> np.ndarray:
        return initial_values((300, 100), role, dtype, seed, 0.02).view(cp.numpy_type(dtype)).astype(np.float64)

    weights = values("weight")
    assert np.array_equal(weights, values("weight"))
    assert not np.array_equal(weights, values("weight", "another"))
    assert abs(weights.mean()) < 0.001
    assert 0.0195 < weights.std() < 0.0205
    assert (values("scale") == 1).all()
    assert all((values(role) == 0).all() for role in ("bias", "shift", "value"))


@pytest.mark.parametrize("form", ["pt", "tf"])
def test_fresh_heads(src: Path, tmp_path: Path, form: str) -> None:
    head = "BertForQuestionAnswering"
    reports = [
        convert_checkpoint(src, tmp_path / f"out{number}", to=form, head=head, init_missing=True) for number in (1, 2)
    ]
    assert cp.snapshot(tmp_path / "out1") == cp.snapshot(tmp_path / "out2")
    assert not reports[0].ok
    fresh = {tensor.id for tensor in reports[0].tensors if tensor.state == "initialised"}
    assert fresh == {"qa.dense.weight", "qa.dense.bias"}
    back = convert_checkpoint(tmp_path / "out1", tmp_path / "back", to="pt")
    assert back.head == head
    assert back.digest == reports[0].digest

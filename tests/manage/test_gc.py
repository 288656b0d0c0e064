"""Leftovers of killed runs: bertconv's own are removed under their lock, everything else stays; and twins are found."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import checkpoints as cp
import pytest
import sick
from checkpoints import Outcome

from bertconv import Leftovers, collect_leftovers, extract_checkpoint
from bertconv.errors import RequestError
from bertconv.formats import leftovers
from bertconv.formats.staging import StagedFolder

MARK = ".bertconv-tmp-0123456789ab"


def staged(folder: Path, name: str = "out", mark: str = MARK) -> Path:
    """What a run that was killed left of an output."""
    left = folder / f".{name}{mark}"
    (left / "inner").mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"x" * 1000)
    (left / "inner" / "y").write_bytes(b"y" * 234)
    return left


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """The lock of another process."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def actions(found: Leftovers) -> dict[str, str]:
    return {Path(one.path).name: one.action for one in found.found}


def test_leftovers_of_a_killed_run_go_wherever_they_are(tmp_path: Path) -> None:
    places = [tmp_path, tmp_path / "a" / "b"]
    for place in places:
        staged(place)
        (place / ".out.bertconv-lock").touch()
        (place / "out").mkdir()
    found = collect_leftovers(tmp_path)
    assert found.ok
    assert found.freed == 2468
    assert [one.action for one in found.found] == ["removed"] * 4
    assert sorted(path.name for place in places for path in place.iterdir()) == ["a", "out", "out"]


def test_a_dry_run_says_the_same_and_changes_nothing(tmp_path: Path) -> None:
    staged(tmp_path)
    staged(tmp_path, "lost", f"{MARK}-old")
    (tmp_path / ".other.bertconv-lock").touch()
    before = cp.snapshot(tmp_path)
    planned = collect_leftovers(tmp_path, dry_run=True)
    assert cp.snapshot(tmp_path) == before
    done = collect_leftovers(tmp_path)
    assert planned.found == done.found
    assert (planned.dry_run, done.dry_run) == (True, False)


def test_an_output_that_was_set_aside_is_put_back(tmp_path: Path) -> None:
    staged(tmp_path, "lost", f"{MARK}-old")
    staged(tmp_path, "lost")
    staged(tmp_path, "there", f"{MARK}-old")
    (tmp_path / "there").mkdir()
    found = collect_leftovers(tmp_path)
    assert actions(found) == {
        f".lost{MARK}": "removed", f".lost{MARK}-old": "put back", f".there{MARK}-old": "removed"
    }  # fmt: skip
    assert (tmp_path / "lost" / "model.safetensors").read_bytes() == b"x" * 1000
    assert names(tmp_path / "there") == []
    assert found.freed == 2468


def test_what_another_run_is_writing_is_kept(tmp_path: Path) -> None:
    staged(tmp_path, "busy")
    staged(tmp_path, "idle")
    with held(tmp_path / ".busy.bertconv-lock"):
        for dry_run in (True, False):
            found = collect_leftovers(tmp_path, dry_run=dry_run)
            kept = {".busy.bertconv-lock": "kept", f".busy{MARK}": "kept", f".idle{MARK}": "removed"}
            assert actions(found) == kept
            assert found.found[0].why == "another bertconv is writing it"
    assert names(tmp_path) == [".busy.bertconv-lock", f".busy{MARK}"]
    assert set(actions(collect_leftovers(tmp_path)).values()) == {"removed"}


def test_the_folder_of_a_run_that_goes_on_is_kept_and_arrives(tmp_path: Path) -> None:
    with StagedFolder(tmp_path / "out") as folder:
        folder.write("config.json", b"{}")
        assert set(actions(collect_leftovers(tmp_path)).values()) == {"kept"}
        folder.commit()
    assert names(tmp_path) == ["out"]


def test_what_another_user_owns_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    found = collect_leftovers(tmp_path)
    assert found.found[0].why == f"belongs to another user (uid {os.getuid()})"
    assert names(tmp_path) == [f".out{MARK}"]


@pytest.mark.parametrize(
    "name",
    ["out.bertconv-tmp-0123456789ab", ".bertconv-tmp-0123456789ab", ".out.bertconv-tmp-0123456789",
     f"..{MARK}", "...bertconv-lock", f"..{MARK}-old",
     f".out{MARK}-older", f".out{MARK}.txt", ".bertconv-lock", "out.bertconv-lock", ".out.bertconv-locked", ".git"],
)  # fmt: skip
def test_what_only_looks_like_it_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert collect_leftovers(tmp_path).found == ()
    assert names(tmp_path) == [name]


def test_links_are_removed_and_never_followed(tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    left = staged(treasure)
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / f".out{MARK}").symlink_to(left)
    (inside / "link").symlink_to(treasure)
    (inside / ".lock.bertconv-lock").symlink_to(treasure / "file")
    found = collect_leftovers(inside)
    assert actions(found) == {f".out{MARK}": "removed", ".lock.bertconv-lock": "kept"}
    assert "cannot be locked" in found.problems[0]
    assert (left / "model.safetensors").exists()
    assert names(inside) == [".lock.bertconv-lock", "link"]


def test_bytes_that_an_output_shares_are_not_counted(tmp_path: Path) -> None:
    left = staged(tmp_path)
    (tmp_path / "out").mkdir()
    os.link(left / "model.safetensors", tmp_path / "out" / "model.safetensors")
    assert collect_leftovers(tmp_path, dry_run=True).freed == 234


def test_the_cache_of_the_hub_is_passed_over(tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    inside = [cache / "models--a--b" / "snapshots" / "c", cache / "blobs" / "ab"]
    for place in inside:
        staged(place)
    (cache / "blobs" / ".huggingface-shared-blobs").touch()
    assert collect_leftovers(tmp_path).found == ()
    assert all((place / f".out{MARK}").exists() for place in inside)
    for place in inside:
        with pytest.raises(RequestError, match="cache of the Hub"):
            collect_leftovers(place)


def test_only_a_folder_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name, problem in (("file", "no such folder"), ("nothing", "no such folder"), ("link", "symbolic link")):
        with pytest.raises(RequestError, match=problem):
            collect_leftovers(tmp_path / name)


def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path / "deep"))

    staged(tmp_path)
    monkeypatch.setattr(shutil, "rmtree", refuse)
    found = collect_leftovers(tmp_path)
    assert found.problems == (f"{tmp_path}/.out{MARK}/deep cannot be removed: Permission denied",)
    assert (found.ok, found.found[0].action, found.freed) == (False, "kept", 0)


def test_folders_without_permission_are_told(tmp_path: Path) -> None:
    closed, sealed = tmp_path / "closed", tmp_path / "sealed"
    for place, mode in ((closed, 0o000), (sealed, 0o555)):
        staged(place)
        place.chmod(mode)
    done = cp.run("gc", tmp_path, before=cp.UNPRIVILEGED)
    for place in (closed, sealed):
        place.chmod(0o755)
    assert done.code == 1
    assert f"Problem: {closed} cannot be looked at: Permission denied." in done.err
    assert f"Problem: {sealed}/.out.bertconv-lock cannot be locked: Permission denied." in done.err
    assert (sealed / f".out{MARK}").exists()


def test_a_leftover_that_disappears_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staged(tmp_path)
    take = leftovers.take_lock

    def taken(lock: Path, *, create: bool = True) -> int | None:
        shutil.rmtree(tmp_path / f".out{MARK}", ignore_errors=True)  # the run to that destination cleaned up
        return take(lock, create=create)

    monkeypatch.setattr(leftovers, "take_lock", taken)
    assert collect_leftovers(tmp_path).ok


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model in three formats, one of them without a manifest, and another model."""
    top = tmp_path_factory.mktemp("twins")
    source = sick.healthy(top / "source")
    for name, form in (("tf", "tf"), ("deep/pt", "pt")):
        assert cp.call("convert", source, top / name, "--to", form, "--quiet") == 0
    cp.save(top / "other", sick.LM, sick.state(seed=5))
    (top / "empty").mkdir()
    return top


def test_folders_with_one_model_are_listed_whatever_the_format(twins: Path) -> None:
    before = cp.snapshot(twins)
    for verify in (False, True):
        found = collect_leftovers(twins, duplicates=True, verify=verify).twins
        [(digest, group)] = found.groups
        assert digest.startswith("sha256:")
        claimed = {Path(twin.path).relative_to(twins).as_posix(): twin.claimed for twin in group}
        assert claimed == {"source": False, "tf": not verify, "deep/pt": not verify}
    assert cp.snapshot(twins) == before
    assert not collect_leftovers(twins).twins.groups


def test_a_head_alone_is_no_model_and_no_problem(tmp_path: Path) -> None:
    head = "BertForSequenceClassification"
    src = cp.save(tmp_path / "in" / "whole", head, cp.state_dict(head))
    for place, verify in (("head", "weights"), ("unverified", "none")):
        extract_checkpoint(src, tmp_path / "in" / place, part="head", verify=verify)
    for verify in (False, True):
        found = collect_leftovers(tmp_path / "in", duplicates=True, verify=verify)
        assert (found.problems, found.twins.groups) == ((), ())


def test_manifests_are_claims(twins: Path, tmp_path: Path) -> None:
    shutil.copytree(twins, top := tmp_path / "copy")
    manifest = top / "tf" / "bertconv.json"
    shutil.copy(manifest, top / "other" / "bertconv.json")
    (top / "source" / "model.safetensors").write_bytes(b"no such thing")
    manifest.write_text("[")
    found = collect_leftovers(top, duplicates=True)
    paths = {Path(twin.path).name for _, group in found.twins.groups for twin in group}
    assert paths == {"other", "pt", "tf"}
    assert [problem.startswith(f"{top}/source cannot be compared: ") for problem in found.problems] == [True]
    found = collect_leftovers(top, duplicates=True, verify=True)
    assert {Path(twin.path).name for _, group in found.twins.groups for twin in group} == {"pt", "tf"}


def test_the_command_line(tmp_path: Path, twins: Path, cli: Callable[..., Outcome]) -> None:
    shutil.copytree(twins, top := tmp_path / "in")
    left = staged(top)
    planned = cli("gc", top, "--dry-run")
    assert planned.out == f"{left} (1.23 kB) would be removed\n1 would be removed, 1.23 kB.\n"
    facts = json.loads(cli("gc", top, "--json", "--duplicates").out)
    assert (facts["ok"], facts["freed"], facts["found"][0]["action"]) == (True, 1234, "removed")
    assert [len(group) for group in facts["twins"]["by_digest"].values()] == [3]
    told = cli("gc", top, "--duplicates")
    assert f"  {top}/source\n  {top}/tf (as its manifest says)\n0 removed, 0 B.\n" in told.out
    assert cli("gc", top, "--quiet").out == "0 removed, 0 B.\n"
    assert (planned.code, told.code) == (0, 0)
    assert cli("gc", top, "--verify").code == 2
    assert cli("gc", top / "nothing").code == 2

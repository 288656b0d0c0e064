"""Arguments that are no path and no text at all: each is refused by name, before anything is read or written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertconv import (
    AutoConfig,
    BertConfig,
    check_checkpoint,
    collect_leftovers,
    convert_checkpoint,
    diagnose,
    diff_checkpoints,
    lineage,
    merge_adapter,
    model_digest,
    pull_checkpoint,
    push_checkpoint,
    shard_checkpoint,
    verify_checkpoint,
)
from bertconv.errors import RequestError
from bertconv.inspection import inspect_checkpoint
from bertconv.source import SourceOptions, open_source

NO_PATHS = pytest.mark.parametrize("wrong", [5, None, ["a"]], ids=str)


@NO_PATHS
@pytest.mark.parametrize(
    ("call", "what"),
    [
        (open_source, "the source"), (inspect_checkpoint, "the source"),
        (lambda wrong: convert_checkpoint(wrong, "out"), "the source"),
        (lambda wrong: convert_checkpoint("in", wrong), "the destination"),
        (BertConfig.from_pretrained, "the config's path"), (AutoConfig.from_pretrained, "the config's path"),
        (BertConfig.from_json_file, "the config's path"), (BertConfig().to_json_file, "the config's path"),
        (BertConfig().save_pretrained, "the folder"),
        (check_checkpoint, "the folder"), (lineage, "the folder"), (collect_leftovers, "the folder"),
        (lambda wrong: push_checkpoint(wrong, "org/name"), "the folder"),
        (lambda wrong: merge_adapter("in", wrong, "out"), "the adapter"),
    ],
    ids=["open_source", "inspect", "convert-source", "convert-destination", "config", "auto", "from_json_file",
         "to_json_file", "save_pretrained", "check", "lineage", "gc", "push", "merge-adapter"],
)  # fmt: skip
def test_what_is_no_path(call: Callable[[Any], Any], what: str, wrong: Any) -> None:
    with pytest.raises(RequestError, match=f"^{what} is ") as caught:
        call(wrong)
    assert caught.value.hint == "Give a path, as a text or a pathlib.Path."


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda _path: open_source("org/name", SourceOptions(cache_dir=5, local_files_only=True)), "cache_dir"),  # type: ignore[arg-type]
        (lambda path: convert_checkpoint("org/name", path / "out", cache_dir=5), "cache_dir"),  # type: ignore[arg-type]
        (lambda _path: BertConfig.from_pretrained("org/name", cache_dir=5), "cache_dir"),
        (lambda path: open_source(path, SourceOptions(subfolder=5)), "subfolder"),  # type: ignore[arg-type]
        (lambda path: BertConfig.from_pretrained(path, subfolder=5), "subfolder"),
        (lambda _path: BertConfig.from_pretrained("org/name", revision=5), "revision"),
        (lambda _path: open_source("org/name", SourceOptions(revision=5)), "revision"),  # type: ignore[arg-type]
        (lambda _path: BertConfig().push_to_hub(5), "repo_id"),
        (lambda _path: BertConfig().push_to_hub(None), "repo_id"),
        (lambda path: push_checkpoint(path, 5), "the repository"),  # type: ignore[arg-type]
        (lambda path: pull_checkpoint(None, path / "out"), "the repository"),  # type: ignore[arg-type]
        (lambda path: convert_checkpoint(path, path / "out", config=5), "config"),  # type: ignore[arg-type]
        (lambda path: inspect_checkpoint(path, config=["a"]), "config"),  # type: ignore[arg-type]
        (lambda path: model_digest(path, config=5), "config"),  # type: ignore[arg-type]
        (lambda path: shard_checkpoint(path, path / "out", config=5), "config"),
        (lambda path: diff_checkpoints(path, path, config_a=5), "config"),  # type: ignore[arg-type]
        (lambda path: verify_checkpoint(path, path, config_b=5), "config"),  # type: ignore[arg-type]
        (lambda path: diagnose(path, config=5), "config"),  # type: ignore[arg-type]
        (lambda _path: diagnose("org/name", cache_dir=5, local_files_only=True), "cache_dir"),  # type: ignore[arg-type]
        (lambda _path: diagnose("org/name", revision=5), "revision"),  # type: ignore[arg-type]
    ],
)
def test_wrong_kinds_of_options(call: Callable[[Path], Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"^{what} is "):
        call(tmp_path)
    assert not list(tmp_path.iterdir())

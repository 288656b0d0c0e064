"""Every verb that writes records a limit of shards alike: as it was given, and not where it is the default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bertconv
from bertconv.errors import RequestError
from tests import checkpoints as cp

WRITES: dict[str, Callable[..., Any]] = {
    "attach": lambda src, dst, **options: bertconv.attach_head(src, src, dst, **options),
    "average": lambda src, dst, **options: bertconv.average_checkpoints([src, src], dst, **options),
    "cast": lambda src, dst, **options: bertconv.cast_checkpoint(src, dst, dtype="float16", **options),
    "convert": lambda src, dst, **options: bertconv.convert_checkpoint(src, dst, to="tf", **options),
    "extract": lambda src, dst, **options: bertconv.extract_checkpoint(src, dst, head="BertModel", **options),
    "extract head": lambda src, dst, **options: bertconv.extract_checkpoint(src, dst, part="head", **options),
    "layers": lambda src, dst, **options: bertconv.keep_layers(src, dst, keep="0", **options),
    "merge": lambda src, dst, **options: bertconv.merge_checkpoints([src, src], dst, method="slerp", **options),
}


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory) -> Path:
    head = "BertForSequenceClassification"
    return cp.save(tmp_path_factory.mktemp("src"), head, cp.state_dict(head))


@pytest.mark.parametrize("verb", WRITES)
@pytest.mark.parametrize(("given", "recorded"), [("3MB", {"max_shard_size": "3MB"}), ("5000MB", {})])
def test_a_limit_of_shards_is_on_record(
    tmp_path: Path, src: Path, verb: str, given: str, recorded: dict[str, str]
) -> None:
    report = WRITES[verb](src, tmp_path / "out", max_shard_size=given, dry_run=True)
    options = report.operation.options
    assert {key: value for key, value in options.items() if key == "max_shard_size"} == recorded


@pytest.mark.parametrize("verb", WRITES)
def test_a_level_that_no_verb_has_is_refused(tmp_path: Path, src: Path, verb: str) -> None:
    with pytest.raises(RequestError, match="verify is 'all'"):
        WRITES[verb](src, tmp_path / "out", verify="all", dry_run=True)

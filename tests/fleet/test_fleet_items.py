"""Items and their list: strict lines, one place for each output, shards that are the same in whatever order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertconv.errors import RequestError
from bertconv.fleet.items import Item, key_of, placed, read_items, safe_name, shard, write_items

TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=30)
ITEMS = st.builds(
    Item, TEXT, st.one_of(st.just(""), TEXT), st.sampled_from(["convert", "hash"]),
    st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.booleans(), st.lists(TEXT))), st.integers(0, 2**60),
    st.one_of(st.just(""), TEXT),
)  # fmt: skip


def listed(folder: Path, *lines: Any) -> Path:
    path = folder / "list.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


@given(items=st.lists(ITEMS, max_size=5))
def test_a_list_is_read_as_it_was_written(items: list[Item], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("list") / "list.jsonl"
    path.write_text("".join(write_items(items)), encoding="utf-8")
    assert read_items(path) == items


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is no JSON"), ("[]", "is no JSON object"), ({}, "names no src"), ({"src": ""}, "names no src"),
        ({"src": 1}, "has a src that is no str"), ({"src": "a", "size": True}, "has a size that is no int"),
        ({"src": "a", "size": -1}, "a size that no file has"), ({"src": "a", "colour": 1}, "has a field 'colour'"),
        ({"src": "a", "verb": "destroy"}, "asks for 'destroy'"), ({"src": "a\0"}, "NUL"),
        ({"src": "a", "size": 1 << 63}, "a size that no file has"), ({"src": "\ud800"}, "half a character"),
        ({"src": "a", "options": {"to": ["\udfff"]}}, "half a character"),
        ('{"src": "a", "src": "b"}', "is no JSON"), (f'{{"src": "{"a" * 1_000_001}"}}', "too long"),
    ],
)  # fmt: skip
def test_a_bad_line_is_refused_with_its_number(line: object, said: str, tmp_path: Path) -> None:
    path = listed(tmp_path, {"src": "good"}, "", line)
    with pytest.raises(RequestError, match="line 3") as caught:
        read_items(path)
    assert said in caught.value.message
    assert caught.value.file == str(path)


def test_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_items(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("src", "name"),
    [
        ("/data/models/bert-base", "bert-base"), ("/data/models/bert-base/", "bert-base"),
        ("org/name", "org--name"), ("org/name@abc", "org--name@abc"), ("bert-base-uncased", "bert-base-uncased"),
        ("s3://bucket/some/model", "model"), ("hf://org/name", "org--name"), ("https://host/a/b?x=1", "b"),
        ("http://user:secret@host", "host"),
        ("/data/größe ☃", "gr--e"), ("/data/...", "checkpoint"), ("./a/b/c", "c"),
    ],
)  # fmt: skip
def test_outputs_are_named_after_their_sources(src: str, name: str) -> None:
    assert safe_name(src) == name


@given(TEXT)
def test_a_name_is_one_plain_part_of_a_path(src: str) -> None:
    name = safe_name(src)
    assert name == Path(name).name
    assert name.isascii()
    assert not name.startswith(".")
    assert 0 < len(name) < 200


def test_sources_with_one_name_are_told_apart_whatever_the_order() -> None:
    items = [Item("/a/model"), Item("/b/Model"), Item("/c/other")]
    names = {item.src: item.dst for item in placed(items, "/out/")}
    assert {item.src: item.dst for item in placed(items[::-1], "/out")} == names
    assert names["/c/other"] == "/out/other"
    assert names["/a/model"].startswith("/out/model-")
    assert len({name.casefold() for name in names.values()}) == 3


def test_a_destination_of_its_own_stays() -> None:
    assert [item.dst for item in placed([Item("/a/x", "/elsewhere/y")], "/out")] == ["/elsewhere/y"]


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([Item("/a"), Item("/a")], "twice"),
        ([Item("/a", "/out/x"), Item("/b", "/out/x/")], "two sources"),
        ([Item("/a", "/out/x"), Item("/b", "/out/x/y")], "another output"),
        ([Item("/a", "s3://out/x"), Item("/b", "s3://out/x/y/z")], "another output"),
    ],
)
def test_outputs_that_would_meet_are_refused(items: list[Item], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        placed(items, "/out")


def test_verbs_that_write_nothing_may_share_a_place() -> None:
    items = [Item("/a", "/out/x", "verify"), Item("/b", "/out/x", "verify")]
    assert placed(items, "/out") == items


def test_local_sources_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (item,) = placed([Item("models/tiny")], "out")
    assert item.src == str(tmp_path / "models" / "tiny")
    assert item.dst == str(tmp_path / "out" / "tiny")


@given(st.integers(1, 9), st.integers(1, 60))
def test_shards_are_a_partition(count: int, items: int) -> None:
    whole = placed((Item(f"/data/{number}") for number in range(items)), "/out")
    parts = [shard(whole, f"{number}/{count}") for number in range(count)]
    assert sorted(item.src for part in parts for item in part) == sorted(item.src for item in whole)
    assert [shard(whole[::-1], f"{number}/{count}")[::-1] for number in range(count)] == parts


@pytest.mark.parametrize("text", ["8/8", "1", "-1/4", "1/0", "a/b", "1/4/2", "0/0", "\u0661/4"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="shard is"):
        shard([], text)


def test_the_key_changes_with_all_that_shapes_an_output() -> None:
    item = Item("/a", "/out/a", options={"to": "pt"})
    known = key_of(item, "one", "tables", "1.0")
    others = [
        key_of(replace(item, options={"to": "tf"}), "one", "tables", "1.0"),
        key_of(replace(item, verb="hash"), "one", "tables", "1.0"), key_of(item, "two", "tables", "1.0"),
        key_of(item, "one", "other", "1.0"), key_of(item, "one", "tables", "1.1"),
    ]  # fmt: skip
    assert len({known, *others}) == 6
    assert key_of(replace(item, dst="/moved", size=7), "one", "tables", "1.0") == known
    assert key_of(item, "", "tables", "1.0") == ""


def test_a_source_with_a_long_name_is_left_to_its_worker() -> None:
    (item,) = placed([Item("a" * 5000)], "/out")
    assert len(Path(item.dst).name) < 200


def test_no_secret_of_an_address_is_told() -> None:
    address = "https://user:secret@host/model.safetensors?signature=secret"
    assert "secret" not in placed([Item(address)], "/out")[0].dst
    for items in ([Item(address)] * 2, [Item(address, "/x"), Item("/b", "/x")]):
        with pytest.raises(RequestError) as caught:
            placed(items, "/out")
        assert "secret" not in f"{caught.value} {caught.value.file}"

"""What tokenizer files may take: real ones fit, whatever their signs are, and what is beyond is reported."""

from __future__ import annotations

import json

import pytest

from bertconv.tokenizer import room
from bertconv.tokenizer.files import MAX_BYTES
from bertconv.tokenizer.room import Room, TooLarge

LABSE, XLM_R = 501_153, 250_037
PIECES = [[f"\u2581{number:05}\U0001f600", -11.512345] for number in range(XLM_R)]
WORDS = {f"w\u00e9{number:05}": number for number in range(LABSE)}


def take(content: str, into: Room) -> None:
    into.take_json(content.encode(), content)


@pytest.mark.parametrize("indent", [None, 2])
def test_the_largest_of_other_models(indent: int | None) -> None:
    content = json.dumps({"model": {"vocab": PIECES}}, ensure_ascii=False, indent=indent)
    assert len(content.encode()) < MAX_BYTES
    take(content, Room())


@pytest.mark.parametrize("ascii_only", [True, False])
def test_the_largest_of_berts_in_both_files(ascii_only: bool) -> None:
    both = Room()
    take(json.dumps({"model": {"vocab": WORDS}}, ensure_ascii=ascii_only), both)
    both.take_lines("\n".join(WORDS).encode())


ONE = {"list": b"[]", "object": b"{}", "value": b",", "key": b":"}


@pytest.mark.parametrize("sign", ONE.values(), ids=ONE)
def test_each_sign_counts(sign: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MEMORY", 3_000)
    Room().take_json(sign * 2, "")
    with pytest.raises(TooLarge, match="reading it would take over 3,000 bytes of memory"):
        Room().take_json(sign * 75, "")


def test_escapes_and_wide_letters_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are needed while a file is read, and not beside the next one."""
    monkeypatch.setattr(room, "MEMORY", 3_000)
    both = Room()
    for _ in range(9):
        both.take_json(b"\\" * 60, "\U0001f600" * 300)
    for content, text in ((b"\\" * 130, ""), (b"", "\U0001f600" * 750)):
        with pytest.raises(TooLarge):
            Room().take_json(content, text)


def test_files_share_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MEMORY", 3_000)
    both = Room()
    both.take_json(b"[" * 20, "")
    with pytest.raises(TooLarge):
        both.take_json(b"[" * 20, "")
    both.take_lines(b"a\n" * 4)
    with pytest.raises(TooLarge):
        both.take_lines(b"a\n")


ENDS = (b"\n", b"\r", b"\r\n")


@pytest.mark.parametrize("end", ENDS)
def test_lines(end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LINES", 7)
    Room().take_lines(b"a" + end * 6)
    with pytest.raises(TooLarge, match="has more than 7 lines"):
        Room().take_lines(b"a" + end * 7)


@pytest.mark.parametrize("end", ENDS)
def test_long_lines(end: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LONGEST", 10)
    Room().take_lines((b"a" * 9 + end) * 5 + b"a" * 9)
    Room().take_lines(b"a" * 9)
    with pytest.raises(TooLarge, match="has a line of more than 10 bytes"):
        Room().take_lines(end + b"a" * 20)


def test_long_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LONGEST", 10)
    take('"12345678"' * 3, Room())
    with pytest.raises(TooLarge, match="holds more than 10 bytes without a quotation mark"):
        take('"' + "1" * 20 + '"', Room())

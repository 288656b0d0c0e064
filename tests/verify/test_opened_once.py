"""What reading costs: each side is opened once and planned once, whatever is done with it.

Counted are the openings of every file and the calls that parse and plan, not time. A file that is opened twice is
listed with its reason.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest

import bertconv.checkpoint
import bertconv.source.reading
from bertconv.convert import convert_checkpoint
from bertconv.inspection import inspect_checkpoint
from bertconv.verification import check_checkpoint, verify_checkpoint

HEAD = "BertForMaskedLM"
CONTAINERS = ("safetensors", "bin", "sharded", "h5", "tf-safetensors")
WORDS = "".join(f"{word}\n" for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "same", "model", "."))
SENTENCES = {"vocab.txt": 2}
"""A's vocabulary is read again by the library that makes sentences of it."""


class Counts:
    """How often files below a folder are opened, and what is called."""

    def __init__(self) -> None:
        self.root: Path | None = None
        self.opened: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def start(self, root: Path) -> None:
        """Count from here on, below this folder."""
        self.opened.clear()
        self.calls.clear()
        self.root = root

    def take(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook, which cannot be taken away again."""
        if self.root is None or event != "open" or not isinstance(arguments[0], (str, Path)):
            return
        path = Path(arguments[0])
        if path.is_relative_to(self.root) and not path.is_dir():
            self.opened[path.relative_to(self.root).as_posix()] += 1

    def again(self, side: str) -> dict[str, int]:
        """Files of one folder that were opened more than once."""
        found = {name.partition("/")[2]: count for name, count in self.opened.items() if name.startswith(f"{side}/")}
        assert found, "nothing was counted"
        return {name: count for name, count in found.items() if count > 1}


COUNTS = Counts()
sys.addaudithook(COUNTS.take)


def count(patch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    real: Callable[..., Any] = getattr(module, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        COUNTS.calls[name] += 1
        return real(*args, **kwargs)

    patch.setattr(module, name, counted)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    count(monkeypatch, bertconv.checkpoint, "make_plan")
    count(monkeypatch, bertconv.source.reading, "read_header")
    yield COUNTS
    COUNTS.root = None


@pytest.fixture
def loaders(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> Counts:
    """The same, with what models plan."""
    from bertconv.models import loading

    count(monkeypatch, loading, "make_plan")
    return counts


def checkpoint(folder: Path, container: str, **changes: Any) -> Path:
    """A model of sentence-transformers with a tokenizer."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    cp.save(folder, HEAD, cp.state_dict(HEAD), container, **changes)
    listing = [{"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for number, (path, kind) in enumerate(kinds.items())]  # fmt: skip
    (folder / "1_Pooling").mkdir()
    for name, content in (("modules.json", listing), ("1_Pooling/config.json", {"word_embedding_dimension": 35}),
                          ("tokenizer_config.json", {"do_lower_case": True})):  # fmt: skip
        (folder / name).write_text(json.dumps(content))
    (folder / "vocab.txt").write_text(WORDS)
    return folder


def number_of_files(folder: Path) -> int:
    """Of weights."""
    return sum(path.suffix in {".safetensors", ".bin", ".h5"} for path in folder.iterdir())


@pytest.mark.parametrize("a", CONTAINERS)
@pytest.mark.parametrize("b", CONTAINERS)
def test_the_weights_of_two_sides(counts: Counts, tmp_path: Path, a: str, b: str) -> None:
    one, other = checkpoint(tmp_path / "a", a), checkpoint(tmp_path / "b", b)
    counts.start(tmp_path)
    assert verify_checkpoint(one, other, level="weights").ok
    assert counts.again("a") == counts.again("b") == {}
    assert counts.calls == {"make_plan": 2, "read_header": number_of_files(one) + number_of_files(other)}


def test_a_side_whose_class_is_found_by_the_other(counts: Counts, tmp_path: Path) -> None:
    """Its plan is refused the first time, and nothing is read again for the second."""
    head = "BertForSequenceClassification"
    one = cp.save(tmp_path / "a", head, cp.state_dict(head))
    other = cp.save(tmp_path / "b", head, cp.state_dict(head), "bin", architectures=None)
    counts.start(tmp_path)
    parity = verify_checkpoint(one, other, level="weights")
    assert (parity.ok, parity.head) == (True, head)
    assert counts.again("a") == counts.again("b") == {}
    assert counts.calls == {"make_plan": 3, "read_header": 2}


@pytest.mark.parametrize(("a", "b"), [("safetensors", "h5"), ("tf-safetensors", "bin"), ("sharded", "safetensors")])
def test_the_outputs_of_two_sides(loaders: Counts, tmp_path: Path, a: str, b: str) -> None:
    one, other = checkpoint(tmp_path / "a", a), checkpoint(tmp_path / "b", b)
    loaders.start(tmp_path)
    assert verify_checkpoint(one, other, level="outputs").ok
    assert loaders.again("a") == SENTENCES
    assert loaders.again("b") == {}
    of_classes = sum(container in {"h5", "tf-safetensors"} for container in (a, b))  # one for all element types
    assert loaders.calls == {
        "make_plan": 2 + of_classes, "read_header": number_of_files(one) + number_of_files(other)
    }  # fmt: skip


@pytest.mark.parametrize("to", ["pt", "tf", "tf-safetensors"])
@pytest.mark.parametrize("limit", ["5GB", "40KB"])
def test_an_output_that_is_held_to_its_record(counts: Counts, tmp_path: Path, to: str, limit: str) -> None:
    source = checkpoint(tmp_path / "source", "safetensors")
    output = tmp_path / "output"
    convert_checkpoint(source, output, to=to, max_shard_size=limit)
    counts.start(tmp_path)
    assert check_checkpoint(output).ok
    assert counts.again("output") == {}
    assert counts.calls == {"read_header": number_of_files(output)}


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_inspection(counts: Counts, tmp_path: Path, container: str) -> None:
    folder = checkpoint(tmp_path / "a", container)
    counts.start(tmp_path)
    assert inspect_checkpoint(folder).head == HEAD
    assert counts.again("a") == {}
    assert counts.calls == {"read_header": number_of_files(folder)}


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_model_that_is_loaded(loaders: Counts, tmp_path: Path, container: str) -> None:
    from bertconv import TFBertForMaskedLM

    folder = checkpoint(tmp_path / "a", container)
    loaders.start(tmp_path)
    TFBertForMaskedLM.from_pretrained(folder)
    assert loaders.again("a") == {}
    assert loaders.calls == {"make_plan": 1, "read_header": number_of_files(folder)}


ALONG = {"vocab.txt": 3, "tokenizer_config.json": 2, "1_Pooling/config.json": 2}
"""What goes along is copied, and read where it is compared; the vocabulary as in SENTENCES."""


@pytest.mark.parametrize("container", ["safetensors", "sharded", "h5"])
@pytest.mark.parametrize("verify", ["none", "weights"])
def test_a_conversion(counts: Counts, tmp_path: Path, container: str, verify: str) -> None:
    source = checkpoint(tmp_path / "a", container)
    counts.start(tmp_path)
    convert_checkpoint(source, tmp_path / "b", to="pt" if container == "h5" else "tf", verify=verify)
    assert counts.again("a") == {"modules.json": 2}  # it goes along too
    assert counts.calls == {"make_plan": 1, "read_header": number_of_files(source)}


@pytest.mark.parametrize("container", ["safetensors", "sharded", "h5"])
def test_a_conversion_whose_outputs_are_compared(loaders: Counts, tmp_path: Path, container: str) -> None:
    """Planned are the conversion, both sides in PyTorch's order, and the class that is loaded from the disk."""
    source = checkpoint(tmp_path / "a", container)
    loaders.start(tmp_path)
    report = convert_checkpoint(source, tmp_path / "b", to="pt" if container == "h5" else "tf", verify="outputs")
    assert report.verified == "outputs"
    assert loaders.again("a") == {"modules.json": 2, **ALONG}
    assert loaders.calls == {"make_plan": 4, "read_header": number_of_files(source) + 1}

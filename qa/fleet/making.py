"""The checkpoints of a fleet: all families, classes and formats that are written, and some that must be refused."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np

from bertconv.convert import convert_checkpoint
from bertconv.errors import BertconvError
from bertconv.formats.output import formats

BY_HAND = ("safetensors", "bin", "legacy", "sharded", "sharded-bin", "h5")
"""Containers that the helpers of the tests write; all other sources are conversions of such a one."""
LITTLE: dict[str, Any] = {"num_hidden_layers": 1}
MINI: dict[str, Any] = {
    "vocab_size": 30_522, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024,
    "max_position_embeddings": 512, "type_vocab_size": 2, "num_hidden_layers": 4,
}  # fmt: skip
BASE: dict[str, Any] = MINI | {
    "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "num_hidden_layers": 12,
}  # fmt: skip
LARGER = (
    ("BertModel", MINI, "tf"),
    ("RobertaForSequenceClassification", MINI, "flax"),
    ("DistilBertForTokenClassification", MINI, "tf-safetensors"),
    ("ElectraModel", MINI, "tf1"),
    ("MPNetModel", MINI, "tf"),
    ("CamembertModel", MINI, "keras-hub"),
    ("BertForMaskedLM", BASE, "tf"),
    ("BertModel", BASE, "tf-safetensors"),
    ("RobertaModel", BASE, "flax"),
)
"""Class, sizes, and the format to which it goes; there are as many as these in a fleet of any size."""


@dataclass(frozen=True)
class Case:
    """One item of the fleet, and what a single run made of it.

    Attributes:
        name: of its folders.
        source: folder that is read.
        to: the format.
        options: more of `convert_checkpoint`.
        single: what the single run wrote; None where it was refused.
        code: exit code of the single run.
        what: for reports: the class, or what is wrong with it.
        form: the format of the source.
    """

    name: str
    source: Path
    to: str
    options: Mapping[str, Any] = field(default_factory=dict)
    single: Path | None = None
    code: int = 0
    what: str = ""
    form: str = ""


def make_fleet(
    root: Path, count: int, bad: int, seed: int, *, larger: bool = True, by_hand: Sequence[str] = BY_HAND
) -> list[Case]:
    """The checkpoints in `root/src`, the outputs of single runs in `root/single`; in an order that mixes all kinds.

    Args:
        root: folder to fill.
        count: of all items.
        bad: of those that must be refused.
        seed: of values and of the order.
        larger: some of them have 45 to 440 MB.
        by_hand: containers of sources that are no conversions; some are written by torch.
    """
    cases = [*_bad(root, bad)]
    if larger:
        cases += _larger(root, seed)
    cases += itertools.islice(_tiny(root, seed, by_hand), count - len(cases))
    random.Random(seed).shuffle(cases)
    return cases


def single_run(root: Path, name: str, source: Path, to: str, what: str, form: str) -> Case:
    """One conversion in this process, with as few options as will do."""
    single = root / "single" / name
    head = {"head": what} if what in cp.EVERY_HEAD else {}
    code = 0
    for options in ({}, {"allow_loss": True}, {"allow_loss": True} | head):
        try:
            convert_checkpoint(source, single, to=to, verify="weights", **options)
        except BertconvError as error:
            code = error.exit_code
        else:
            return Case(name, source, to, options, single, 0, what, form)
    return Case(name, source, to, {}, None, code, what, form)


def _tiny(root: Path, seed: int, by_hand: Sequence[str]) -> Iterator[Case]:
    """Every class in turn, each time from another format and to another one; what a dialect lacks is left out."""
    names = [*by_hand, *(name for name in formats() if name != "pt")]
    done = 0
    for turn in itertools.count():
        for number, head in enumerate(cp.EVERY_HEAD):
            form = names[(number + turn * 3) % len(names)]
            to = list(formats())[(number * 3 + turn * 5) % len(formats())]
            name = f"tiny-{done:03}-{form}-to-{to}"
            source = _source(root, name, head, form, seed + done)
            case = single_run(root, name, source, to, head, form) if source is not None else None
            if case is None or case.single is None:
                shutil.rmtree(root / "src" / name, ignore_errors=True)
                continue
            done += 1
            yield case


def _source(root: Path, name: str, head: str, form: str, seed: int) -> Path | None:
    """A tiny checkpoint in a format; None where the format has no such class."""
    folder = root / "src" / name
    state = cp.state_dict(head, seed=seed, **LITTLE)
    if form in BY_HAND:
        return _with_companions(cp.save(folder, head, state, form, **LITTLE))
    plain = _with_companions(cp.save(root / "plain", head, state, **LITTLE))
    try:
        convert_checkpoint(plain, folder, to=form, head=head, allow_loss=True)
    except BertconvError:
        return None
    finally:
        shutil.rmtree(plain)
    return folder


def _with_companions(folder: Path) -> Path:
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    return folder


def _larger(root: Path, seed: int) -> Iterator[Case]:
    for number, (head, sizes, to) in enumerate(LARGER):
        size = "base" if sizes is BASE else "mini"
        name = f"{size}-{number}-safetensors-to-{to}"
        rng = np.random.default_rng(seed + number)
        shapes = cp.shapes(head, cp.config(head, **sizes))
        state = {each: rng.standard_normal(shape, np.float32) for each, shape in shapes.items()}
        folder = cp.save(root / "src" / name, head, {}, **sizes)
        _write_safetensors(folder / "model.safetensors", cp.native(head, state))
        case = single_run(root, name, folder, to, head, "safetensors")
        if case.single is None:
            raise AssertionError(f"{name}: refused with {case.code}")
        yield case


def _write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """As `checkpoints.safetensors_bytes`, which joins all tensors in memory."""
    header, offset = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    with path.open("wb") as file:
        file.write(cp.with_header(json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()))
        for value in tensors.values():
            file.write(value.tobytes())


# Those that must be refused


class _Payload:
    """A pickle that would make a canary, and does nothing else."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.canary}",)


def _cut(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size // 2)


def _page(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"<!doctype html><title>404</title>" * 20)


def _pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"bert.x": _Payload(canary_of(folder.parents[1]))}, 2))


def _torch_zip(folder: Path) -> None:
    import torch

    (folder / "model.safetensors").unlink()
    stream = io.BytesIO()
    torch.save({"weight": torch.zeros(3), "more": _Payload(canary_of(folder.parents[1]))}, stream)
    (folder / "pytorch_model.bin").write_bytes(stream.getvalue())


def _header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((1 << 60).to_bytes(8, "little") + b"{}" * 50)


def _lacking(folder: Path) -> None:
    _rewrite(folder, lambda tensors: {key: value for key, value in tensors.items() if "layer.0.output" not in key})


def _unknown(folder: Path) -> None:
    _rewrite(folder, lambda tensors: tensors | {"bert.encoder.layer.0.gate.weight": np.zeros((3, 5), np.float32)})


def _rewrite(folder: Path, change: Callable[[cp.Tensors], cp.Tensors]) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(cp.safetensors_bytes(change(cp.read_safetensors(path)[0]), {"format": "pt"}))


def _foreign(folder: Path) -> None:
    cp.write_config(folder, {"model_type": "gpt2", "architectures": ["GPT2Model"], "n_embd": 35})


def _link(folder: Path) -> None:
    away = folder.parents[1] / "elsewhere.safetensors"
    (folder / "model.safetensors").rename(away)
    (folder / "model.safetensors").symlink_to(away)


def _pipe(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")


def _deep(folder: Path) -> None:
    (folder / "config.json").write_text('{"a":' * 200_000 + "1" + "}" * 200_000)


def _empty(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


WRONG: Mapping[str, tuple[Callable[[Path], None], int]] = {
    "cut": (_cut, 5),
    "page-of-a-proxy": (_page, 5),
    "pickle-with-a-call": (_pickle, 5),
    "torch-file-with-a-call": (_torch_zip, 4),
    "header-of-an-exabyte": (_header, 4),
    "lacking": (_lacking, 3),
    "unknown-tensor": (_unknown, 3),
    "foreign-model": (_foreign, 6),
    "link-out": (_link, 4),
    "pipe": (_pipe, 4),
    "deep-config": (_deep, 5),
    "no-weights": (_empty, 5),
}
"""What is wrong -> what makes it so of a sound one, and the exit code that says so."""


def canary_of(root: Path) -> Path:
    """What a payload would make."""
    return root / "canary"


def _bad(root: Path, count: int) -> Iterator[Case]:
    if count > len(WRONG):
        raise ValueError(f"there are {len(WRONG)} kinds of bad checkpoints, not {count}")
    for what, (spoil, code) in itertools.islice(WRONG.items(), count):
        folder = cp.save(root / "src" / f"bad-{what}", "BertModel", cp.state_dict(**LITTLE), **LITTLE)
        spoil(folder)
        case = single_run(root, f"bad-{what}", folder, "tf", what, "")
        if case.code != code:
            raise AssertionError(f"bad-{what}: exit code {case.code}, not {code}")
        yield case

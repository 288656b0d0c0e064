"""docs/story.md: its commands, in order, on a tiny model; what they print is what the page shows, numbers aside."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest
import tokenizer_folders as tf
from hub_writes import WritableHub

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "story.md").read_text()
HEAD = "BertForSequenceClassification"
LABELS = ("billing", "delivery", "returns")
SIZES = {"vocab_size": len(tf.WORDS), "num_hidden_layers": 6, "max_position_embeddings": 512, "pad_token_id": 0}
Cli = Callable[..., cp.Outcome]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>'")  # huggingface_hub 2.4 to its HTTP library


def steps() -> Iterator[tuple[list[str], list[str]]]:
    """The command lines of each block, and the lines that the page shows of what they print."""
    for block in re.split(r"^```sh\n", PAGE, flags=re.MULTILINE)[1:]:
        commands, _, rest = block.partition("```\n")
        shown = re.findall(r"^```\n(.*?)^```$", rest, re.MULTILINE | re.DOTALL)
        yield commands.splitlines(), "".join(shown).splitlines()


def essence(line: str) -> str:
    """A line without its numbers, digests and the width of its columns."""
    line = re.sub(r"\b[0-9a-f]{12,}\b|[0-9][0-9.,]*", "#", line)
    return re.sub(r"\b[kM]?B\b", "B", re.sub(r"[-+]{2,}", "-", re.sub(r"\s+", " ", line))).strip()


def weights(head: str, seed: int, **changes: object) -> cp.Tensors:
    """Those of seed 0 and a little noise."""
    found = {}
    for number, (name, shape) in enumerate(cp.shapes(head, cp.config(head, **SIZES, **changes)).items()):
        base, noise = (np.random.default_rng((number, one)).standard_normal(shape) for one in (0, seed))
        found[name] = np.asarray(base + (noise * 0.01 if seed else 0), np.float32)
    return found


def arrange(folder: Path, hub: WritableHub) -> None:
    """What the story begins with: a base, an ill copy of one of its children, one child here and one on the Hub."""
    tokenizer = {"tokenizer.json": tf.fast(), "tokenizer_config.json": {"do_lower_case": True, "model_max_length": 512}}
    base = tf.folder(folder / "minilm", files={**tokenizer, "sentence_bert_config.json": {"max_seq_length": 256}})
    cp.save(base, "BertModel", weights("BertModel", 0), **SIZES)
    names = {str(number): label for number, label in enumerate(LABELS)}
    more = {"id2label": names, "label2id": {label: int(number) for number, label in names.items()},
            "problem_type": "single_label_classification"}  # fmt: skip
    places = {1: "incoming", 2: "seed-2/checkpoint-20", 3: "seed-2/checkpoint-30", 4: "seed-3"}
    for seed, place in places.items():
        tf.folder(folder / place, None, tokenizer)
        tensors = weights(HEAD, seed, **more)
        cp.save(folder / place, HEAD, cp.prefixed(tensors, "module.") if seed == 1 else tensors, **SIZES, **more)
    for name in ("tickets", "tickets-seed-3"):
        hub.make(f"team/{name}")
    hub.commit("team/tickets-seed-3", {path.name: path.read_bytes() for path in (folder / "seed-3").iterdir()})
    shutil.rmtree(folder / "seed-3")


def test_the_commands_do_what_the_page_shows(cli: Cli, hub: WritableHub, tmp_path: Path) -> None:
    arrange(tmp_path, hub)  # where the commands run
    ran = 0
    for commands, shown in steps():
        printed: list[str] = []
        for line in commands:
            command, _, comment = line.partition(" # ")
            expected = int(comment.removeprefix("exit code ") or 0)
            done = cli(*shlex.split(command)[1:])
            assert done.code == expected, (line, done)
            printed += map(essence, done.out.splitlines())
            ran += 1
        for line in shown:
            whole = not line.endswith("...")
            wanted = essence(line.removesuffix("..."))
            assert any(one == wanted if whole else one.startswith(wanted) for one in printed), "\n".join(
                [wanted, "", *printed]
            )
    assert ran > 12
    assert {"diff.html", "history.html", "pulled"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("picture", ["story-diff.png", "story-history.png"])
def test_a_picture_is_there_and_small(picture: str) -> None:
    assert f"]({picture})" in PAGE
    data = (DOCS / picture).read_bytes()
    assert data.startswith(b"\x89PNG")
    assert len(data) < 200_000


def test_the_page_is_short() -> None:
    assert len(PAGE.splitlines()) <= 200
    assert max(map(len, PAGE.splitlines())) <= 130

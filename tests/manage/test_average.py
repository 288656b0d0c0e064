"""The mean of checkpoints, held to numpy on whole arrays in float64."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest

from bertconv import average_checkpoints
from bertconv.errors import MappingError, RequestError
from bertconv.formats import arithmetic, streaming, workers
from bertconv.mapping.layout import Transpose

HEAD = "BertForSequenceClassification"
MLM = "BertForMaskedLM"
Tensors = cp.Tensors


def mean(states: list[Tensors], weights: list[float], dtype: str = "float32") -> Tensors:
    """Sums in float64, divided, rounded once."""
    found = {}
    for name in states[0]:
        total = sum(np.asarray(state[name], np.float64) * weight for state, weight in zip(states, weights, strict=True))
        found[name] = rounded(total / sum(weights), dtype)
    return found


def rounded(numbers: np.ndarray, dtype: str) -> np.ndarray:
    """Float64 to a type in one rounding; to bfloat16 by whole numbers, since ml_dtypes rounds twice."""
    if dtype != "bfloat16":
        return numbers.astype(cp.numpy_type(dtype))
    bits = numbers.view(np.uint64)
    exponent = 52 - 7
    half = np.uint64((1 << (exponent - 1)) - 1) + ((bits >> np.uint64(exponent)) & np.uint64(1))
    kept = (bits + half) >> np.uint64(exponent) << np.uint64(exponent)
    return kept.view(np.float64).astype(cp.numpy_type(dtype))


def made(folder: Path, count: int, head: str = HEAD, containers: str = "safetensors", **facts: Any) -> list[Path]:
    """Checkpoints with other numbers each, in these containers in turn."""
    kinds = containers.split()
    return [
        cp.save(folder / f"in{seed}", head, cp.state_dict(head, seed=seed, **facts), kinds[seed % len(kinds)])
        for seed in range(count)
    ]


def states(count: int, head: str = HEAD, **facts: Any) -> list[Tensors]:
    return [cp.state_dict(head, seed=seed, **facts) for seed in range(count)]


@pytest.mark.parametrize("weights", [None, [1, 2, 1], [0, 0.1, 7.25]])
@pytest.mark.parametrize("containers", ["safetensors", "safetensors h5 bin", "h5 tf-safetensors sharded"])
def test_the_mean_is_numpys(tmp_path: Path, weights: list[float] | None, containers: str) -> None:
    average_checkpoints(made(tmp_path, 3, containers=containers), tmp_path / "out", weights=weights, to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), mean(states(3), weights or [1, 1, 1]))


@pytest.mark.parametrize("dtype", cp.FLOATS)
def test_every_type_is_rounded_once(tmp_path: Path, dtype: str) -> None:
    average_checkpoints(made(tmp_path, 3, dtype=dtype), tmp_path / "out", weights=[1, 2, 3])
    cp.assert_same(cp.written(tmp_path / "out"), mean(states(3, dtype=dtype), [1, 2, 3], dtype))


def test_bfloat16_is_not_rounded_by_way_of_float32() -> None:
    near = 1 + 2.0**-8 + 2.0**-40  # above the middle of two neighbours, on it in float32
    numbers = np.array([near, -near, 1 + 2.0**-8, 1 + 3 * 2.0**-8 - 2.0**-40, np.inf, np.nan, 1e-40])
    nowhere = arithmetic.Operand(None, None, None)  # type: ignore[arg-type]
    bits = arithmetic.Rounding("bfloat16", [nowhere])(numbers, [numbers])
    found = bits.view(cp.numpy_type("bfloat16")).astype(float)
    np.testing.assert_array_equal(found[:6], [1 + 2.0**-7, -1 - 2.0**-7, 1.0, 1 + 2.0**-7, np.inf, np.nan])
    assert abs(found[6] - 1e-40) < 2.0**-134


@pytest.mark.parametrize("dtype", cp.FLOATS)
@pytest.mark.parametrize("count", [2, 3])
def test_what_is_equal_in_all_keeps_its_bits(tmp_path: Path, dtype: str, count: int) -> None:
    """Also NaN with a payload, a signalling one, and a zero with a sign; beside elements that differ."""
    odd = {"float32": [0x7FC12345, 0x7F812345, 0x80000000, 0xFF800000, 1],
           "float16": [0x7E11, 0x7C11, 0x8000, 0xFC00, 1],
           "bfloat16": [0x7FC1, 0x7F81, 0x8000, 0xFF80, 1],
           "float64": [0x7FF8000000012345, 0x7FF0000000012345, 1 << 63, 0xFFF << 52, 1]}[dtype]  # fmt: skip
    found, folders = [], []
    for seed in range(count):
        state = cp.state_dict(HEAD, dtype=dtype, seed=seed)
        query = "bert.encoder.layer.0.attention.self.query.weight"
        state["bert.pooler.dense.weight"] = cp.state_dict(HEAD, dtype=dtype)["bert.pooler.dense.weight"]
        state[query].reshape(-1).view(f"u{state[query].itemsize}")[3:8] = odd
        found.append(state)
        folders.append(cp.save(tmp_path / f"in{seed}", HEAD, state))
    average_checkpoints(folders, tmp_path / "out", weights=[0.3, 0.7, 0.11][:count])
    out = cp.written(tmp_path / "out")
    bits = out[query].reshape(-1).view(f"u{out[query].itemsize}")
    assert bits[3:8].tolist() == odd
    assert bits[8] != found[0][query].reshape(-1).view(bits.dtype)[8]
    pooler = "bert.pooler.dense.weight"
    assert out[pooler].tobytes() == found[0][pooler].tobytes()


def test_a_moving_average_is_the_recursion(tmp_path: Path) -> None:
    average_checkpoints(made(tmp_path, 4), tmp_path / "out", ema=0.75)
    found, inputs = cp.written(tmp_path / "out"), states(4)
    for name in found:
        ema = np.asarray(inputs[0][name], np.float64)
        for state in inputs[1:]:
            ema = 0.75 * ema + 0.25 * np.asarray(state[name], np.float64)
        np.testing.assert_allclose(found[name], ema.astype(np.float32), rtol=2e-7)


def test_mixed_types_become_one_that_holds_all(tmp_path: Path) -> None:
    kinds = ["float16", "bfloat16", "float32"]
    inputs = [cp.state_dict(HEAD, dtype=kind, seed=seed) for seed, kind in enumerate(kinds)]
    folders = [
        cp.save(tmp_path / kind, HEAD, state, torch_dtype=kind) for kind, state in zip(kinds, inputs, strict=True)
    ]
    report = average_checkpoints(folders[:2], tmp_path / "two")
    assert cp.config_of(tmp_path / "two")["torch_dtype"] == "float32"
    assert any("different element types in the inputs (bfloat16, float16)" in note for note in report.notes)
    cp.assert_same(cp.written(tmp_path / "two"), mean(inputs[:2], [1, 1]))
    average_checkpoints(folders, tmp_path / "three", dtype="bfloat16")
    cp.assert_same(cp.written(tmp_path / "three"), mean(inputs, [1, 1, 1], "bfloat16"))


def test_a_number_that_the_type_has_not_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for seed in range(2):
        state = cp.state_dict(HEAD, seed=seed)
        state["classifier.bias"][3] = 7e4
        folders.append(cp.save(tmp_path / f"in{seed}", HEAD, state))
    assert cp.call("average", *folders, "-o", tmp_path / "out", "--dtype", "float16") == 2
    assert "float16 cannot hold" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Formats, threads and pieces do not show


@pytest.mark.parametrize("to", ["pt", "tf", "tf-safetensors"])
def test_every_format_has_the_same_digest(tmp_path: Path, to: str) -> None:
    inputs = made(tmp_path, 3, head=MLM, containers="safetensors h5")
    report = average_checkpoints(inputs, tmp_path / "out", to=to)
    plain = average_checkpoints(inputs, tmp_path / "plain")
    assert report.digest == plain.digest != ""
    assert report.target["format"] == to
    assert cp.call("verify", tmp_path / "out", tmp_path / "plain", "--level", "weights", "--quiet") == 0


def test_neither_threads_nor_pieces_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = made(tmp_path, 3, containers="h5 safetensors")
    average_checkpoints(inputs, tmp_path / "out", to="pt", weights=[1, 2, 4])
    monkeypatch.setattr(workers, "THREADS", 1)
    monkeypatch.setattr(arithmetic, "STEP", 97)
    monkeypatch.setattr(arithmetic, "ROOM", 3 * 1000)
    monkeypatch.setattr(streaming, "PIECE", 500)
    average_checkpoints(inputs, tmp_path / "again", to="pt", weights=[1, 2, 4])
    assert cp.snapshot(tmp_path / "out") == cp.snapshot(tmp_path / "again")


def test_memory_does_not_grow_with_the_tensors(tmp_path: Path) -> None:
    """Ten matrices of 16 MB, each transposed on the way."""
    size, count = 2000, 10
    values = np.arange(size * size, dtype=np.float32)
    (tmp_path / "file").write_bytes(values.tobytes())
    with closing(cp.open_file(tmp_path / "file")) as file:
        turn = Transpose.of_matrix(size, size)
        operand = arithmetic.Operand(cp.stored(file, "float32", (size, size)), turn, turn)
        compute = arithmetic.weighted_sum([operand] * count, range(1, count + 1), "float64", is_mean=True, divisor=55)
        workspace, place = streaming.Workspace(), 0
        tracemalloc.start()
        try:
            for piece in compute(workspace):
                first = values[place % size * size + place // size]
                assert piece.view(np.float64)[0] == pytest.approx(first)
                place += piece.size
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert place == size * size
    assert peak < 45 << 20


def test_an_output_says_what_made_it(tmp_path: Path) -> None:
    inputs = made(tmp_path, 2)
    report = average_checkpoints(inputs, tmp_path / "out", weights=[3, 1], dtype="float64")
    manifest = json.loads((tmp_path / "out/bertconv.json").read_bytes())
    assert manifest["operation"] == {"verb": "average", "options": {"weights": [3, 1], "dtype": "float64"}}
    assert [(one["role"], one["given"]) for one in manifest["parents"]] == [("input", "in0"), ("input", "in1")]
    assert all(one["digest"] and one["backbone_digest"] for one in manifest["parents"])
    assert manifest["digest"] == report.digest
    assert {one.state for one in report.tensors} == {"computed"}
    assert report.ok
    assert cp.call("verify", tmp_path / "out", "--quiet") == 0


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = made(tmp_path, 2)
    assert cp.call("average", *inputs, "-o", tmp_path / "out", "--dry-run", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dry_run"]
    assert found["operation"]["verb"] == "average"
    assert not (tmp_path / "out").exists()


# Training runs


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Steps whose names are not in the order of their numbers, and what is no step."""
    folder = tmp_path / "run"
    for seed, step in enumerate((1000, 500, 20, 3000)):
        cp.save(folder / f"checkpoint-{step}", HEAD, cp.state_dict(HEAD, seed=seed))
        (folder / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    (folder / "checkpoint-best").mkdir()
    (folder / "checkpoint-9999").symlink_to(folder / "checkpoint-20")
    (folder / "checkpoint-7").write_text("no folder")
    return folder


@pytest.mark.parametrize(
    ("last", "steps"), [("2", [1000, 3000]), ("all", [20, 500, 1000, 3000]), (None, [20, 500, 1000, 3000])]
)
def test_steps_of_a_run_are_taken_by_number(run: Path, tmp_path: Path, last: str | None, steps: list[int]) -> None:
    words = [] if last is None else ["--last", last]
    assert cp.call("average", *words, run, "-o", tmp_path / "out", "--ema", "0.5", "--quiet") == 0
    manifest = json.loads((tmp_path / "out/bertconv.json").read_bytes())
    assert [one["given"] for one in manifest["parents"]] == [f"checkpoint-{step}" for step in steps]
    assert manifest["operation"]["options"] == {
        "ema": 0.5,
        **({} if last is None else {"last": int(last) if last != "all" else last}),
    }


def test_a_run_that_is_a_checkpoint_itself_needs_last(run: Path, tmp_path: Path) -> None:
    cp.save(run, HEAD, cp.state_dict(HEAD, seed=7))
    with pytest.raises(RequestError, match="one input is no average"):
        average_checkpoints(run, tmp_path / "out")
    assert len(average_checkpoints(run, tmp_path / "out", last=3).parents) == 3


# Refused


def other_config(folder: Path, **changes: Any) -> Path:
    return cp.save(folder / "other", HEAD, cp.state_dict(HEAD, seed=1), **changes)


def other_sizes(folder: Path) -> Path:
    return cp.save(folder / "other", HEAD, cp.state_dict(HEAD, seed=1, intermediate_size=59), intermediate_size=59)


def fewer_layers(folder: Path) -> Path:
    return cp.save(folder / "other", HEAD, cp.state_dict(HEAD, seed=1, num_hidden_layers=1), num_hidden_layers=1)


def other_family(folder: Path) -> Path:
    head = "RobertaForSequenceClassification"
    return cp.save(folder / "other", head, cp.state_dict(head))


def other_vocabulary(folder: Path) -> Path:
    found = other_config(folder)
    write_vocabulary(found, reverse=True)
    return found


def write_vocabulary(folder: Path, *, reverse: bool) -> None:
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *sorted((f"word{number}" for number in range(96)), reverse=reverse),
    ]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "family": (other_family, "it is a model of RoBERTa, and"),
    "class": (lambda folder: cp.save(folder / "other", MLM, cp.state_dict(MLM)), "it is a BertForMaskedLM, and"),
    "activation": (lambda folder: other_config(folder, hidden_act="relu"), "hidden_act is 'relu' in its config"),
    "epsilon": (lambda folder: other_config(folder, layer_norm_eps=1e-5), "layer_norm_eps is 1e-05 in its config"),
    "attention heads": (lambda folder: other_config(folder, num_attention_heads=7), "num_attention_heads is 7"),
    "sizes": (other_sizes, "layer.0.ffn_in.weight has the shape [59, 35], and [53, 35] in the other"),
    "layers": (fewer_layers, "in0 has layer.1."),
    "vocabulary": (other_vocabulary, "it has another vocabulary: the same number of tokens with other ids"),
    "labels": (lambda folder: other_config(folder, id2label={str(n): f"class {n}" for n in range(11)}), "label 0 is"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_an_input_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made(tmp_path, 1)[0]
    write_vocabulary(first, reverse=False)
    make, said = REFUSED[what]
    other = make(tmp_path)
    assert cp.call("average", first, other, "-o", tmp_path / "out") == 3
    error = capsys.readouterr().err
    assert f"{other}: cannot be combined with {first}: " in error
    assert said in error
    assert not (tmp_path / "out").exists()


def test_tokens_that_one_side_lacks_are_noted(tmp_path: Path) -> None:
    inputs = made(tmp_path, 2)
    write_vocabulary(inputs[0], reverse=False)
    report = average_checkpoints(inputs, tmp_path / "out")
    assert f"{inputs[1].name} has no list of tokens, so that its vocabulary was not compared" in report.notes
    assert (tmp_path / "out/vocab.txt").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": [1]}, "1 weights were given for 2"), ({"weights": [1, -1]}, "the weights are"),
        ({"weights": [0, 0]}, "the weights are"), ({"weights": [float("nan"), 1]}, "the weights are"),
        ({"weights": [float("inf"), 1]}, "the weights are"), ({"ema": 1.0}, "ema is"), ({"ema": -0.1}, "ema is"),
        ({"ema": 0.5, "weights": [1, 1]}, "exclude each other"), ({"last": 2}, "last was given with 2"),
        ({"heads": "drop", "head": HEAD}, "exclude each other"), ({"heads": "all"}, "heads is"),
        ({"to": "onnx"}, "to is"), ({"dtype": "int8"}, "dtype is"),
        ({"verify": "outputs"}, "verify is"), ({"max_shard_size": "much"}, "max_shard_size is"),
    ],
)  # fmt: skip
def test_requests_that_make_no_sense(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        average_checkpoints(made(tmp_path, 2), tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("last", "said"), [(5, "holds 4 checkpoint-STEP folders, and 5"), (0, "last is 0"), ("some", "last is")]
)
def test_a_run_with_too_few_steps(run: Path, tmp_path: Path, last: Any, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        average_checkpoints(run, tmp_path / "out", last=last)


@pytest.mark.parametrize("words", [["--weights", "1,x"], ["--last", "0"], ["--last", "many"], ["--ema", "often"]])
def test_words_that_are_no_numbers(tmp_path: Path, words: list[str]) -> None:
    assert cp.call("average", "a", "b", "-o", tmp_path / "out", *words) == 2


# Heads


def test_heads_of_different_classes(tmp_path: Path) -> None:
    one, other = cp.state_dict(HEAD, seed=0), cp.state_dict(MLM, seed=1)
    a, b = cp.save(tmp_path / "a", HEAD, one), cp.save(tmp_path / "b", MLM, other)
    body = [name for name in one if name in other]
    dropped = average_checkpoints([a, b], tmp_path / "dropped", heads="drop")
    assert dropped.head == "BertModel"
    expected = mean([{name: state[name] for name in body} for state in (one, other)], [1, 1])
    cp.assert_same(cp.written(tmp_path / "dropped"), cp.bare(expected))
    assert any("not in both" in note and "pooler" in note for note in dropped.notes)
    first = average_checkpoints([a, b], tmp_path / "first", heads="first")
    assert first.head == HEAD
    alone = {name: one[name] for name in one if name not in body}
    cp.assert_same(cp.written(tmp_path / "first"), expected | alone)
    assert {tensor.id for tensor in first.tensors if tensor.state == "loaded"} == {
        "pooler.dense.weight", "pooler.dense.bias", "classifier.dense.weight", "classifier.dense.bias"
    }  # fmt: skip


def test_heads_of_other_labels_are_no_matter_where_one_is_taken(tmp_path: Path) -> None:
    one, other = cp.state_dict(HEAD, seed=0), cp.state_dict(HEAD, seed=1, labels=3)
    a, b = cp.save(tmp_path / "a", HEAD, one), cp.save(tmp_path / "b", HEAD, other, labels=3)
    with pytest.raises(MappingError, match="cannot be combined"):
        average_checkpoints([a, b], tmp_path / "out")
    average_checkpoints([a, b], tmp_path / "out", heads="first")
    assert cp.written(tmp_path / "out")["classifier.weight"].tobytes() == one["classifier.weight"].tobytes()


# Modules of sentence-transformers


def with_dense(folder: Path, seed: int) -> Path:
    """A checkpoint with a module that has weights of its own."""
    (folder / "1_Dense").mkdir()
    listing = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "sentence_transformers.models.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(listing))
    settings = {
        "in_features": 35,
        "out_features": 7,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (folder / "1_Dense/config.json").write_text(json.dumps(settings))
    weights = {
        "linear.weight": cp.random_array((7, 35), "float32", seed),
        "linear.bias": cp.random_array((7,), "float32", seed),
    }
    (folder / "1_Dense/model.safetensors").write_bytes(cp.safetensors_bytes(weights, {"format": "pt"}))
    return folder


def test_equal_modules_go_along_and_others_are_refused(tmp_path: Path) -> None:
    head = "BertModel"
    a, b = (with_dense(cp.save(tmp_path / name, head, cp.state_dict(head, seed=len(name))), 5) for name in ("a", "bb"))
    average_checkpoints([a, b], tmp_path / "out")
    assert (tmp_path / "out/1_Dense/model.safetensors").read_bytes() == (a / "1_Dense/model.safetensors").read_bytes()
    shutil.rmtree(b / "1_Dense")
    with_dense(b, 6)
    with pytest.raises(MappingError, match="weights of modules beside the transformer differ: 1_Dense/linear"):
        average_checkpoints([a, b], tmp_path / "again")
    bare = cp.save(tmp_path / "ccc", head, cp.state_dict(head, seed=3))
    with pytest.raises(MappingError, match="weights of modules beside the transformer differ"):
        average_checkpoints([bare, b], tmp_path / "again")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_sum_beyond_float64_is_refused(tmp_path: Path, dtype: str) -> None:
    """An infinity or a NaN of an input stays one; a finite mean of finite numbers never becomes one in silence."""
    most = {"float64": 1.7e308, "float32": 3e38}[dtype]
    states = [cp.state_dict(HEAD, dtype, seed=seed) for seed in range(2)]
    for state, strange in zip(states, (np.inf, np.nan), strict=True):
        state["classifier.bias"][2] = strange
    folders = [cp.save(tmp_path / f"in{number}", HEAD, state) for number, state in enumerate(states)]
    average_checkpoints(folders, tmp_path / "strange")
    for number, state in enumerate(states):
        state["classifier.bias"][3] = most * (1 - number / 8)
        cp.save(tmp_path / f"in{number}", HEAD, state)
    heavy = [1e300, 1e300] if dtype == "float32" else None
    with pytest.raises(RequestError, match=f"{dtype} cannot hold"):
        average_checkpoints(folders, tmp_path / "out", weights=heavy)


def test_a_log_counts_what_was_computed_and_names_the_inputs(tmp_path: Path, cli: Callable[..., cp.Outcome]) -> None:
    folders = [cp.save(tmp_path / name, HEAD, cp.state_dict(HEAD, seed=seed)) for seed, name in enumerate(("a", "b"))]
    lines = cli("average", *folders, "-o", tmp_path / "out").out.splitlines()
    parents = json.loads((tmp_path / "out" / "bertconv.json").read_bytes())["parents"]
    short = [parent["digest"].removeprefix("sha256:")[:12] for parent in parents]
    tensors = len(cp.state_dict(HEAD))
    assert lines[1:4] == [
        f"  input a {short[0]}",
        f"  input b {short[1]}",
        f"{tensors} of {tensors} tensors computed: average of 2 (--verbose lists them)",
    ]
    assert not [line for line in lines if "| computed" in line]


@pytest.mark.parametrize("heads", ["first", "drop"])
def test_no_folder_of_this_machine_is_on_record(tmp_path: Path, heads: str) -> None:
    """Notes and details name the inputs, and go into bertconv.json."""
    body = cp.save(tmp_path / "body", "BertModel", cp.state_dict("BertModel"))
    inputs = [cp.save(tmp_path / "whole", HEAD, cp.state_dict(HEAD)), body]
    (body / "vocab.txt").write_text("word")
    report = average_checkpoints(inputs, tmp_path / "out", heads=heads)
    assert "whole has no list of tokens" in " ".join(report.notes)
    assert str(tmp_path) not in (tmp_path / "out" / "bertconv.json").read_text()

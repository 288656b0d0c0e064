"""docs/parity.schema.json describes what `bertconv verify --json` writes, all of it and nothing else."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import checkpoints
import jsonschema
import pytest
import reports

from bertconv.verification import check_checkpoint, verify_checkpoint
from bertconv.verify import agreement, certificate, parity
from bertconv.verify.parity import Parity

SCHEMA = json.loads(Path(__file__).parents[2].joinpath("docs", "parity.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FOLDER_CHECK = jsonschema.Draft202012Validator({"$ref": "#/$defs/folder_check", "$defs": SCHEMA["$defs"]})
CLASSES = {
    "side": parity.SideFacts,
    "tensor": parity.TensorComparison,
    "config": parity.ConfigDifference,
    "agreement": agreement.Agreement,
    "mismatch": agreement.Mismatch,
    "case": parity.Case,
    "measurement": parity.Measurement,
    "gradient": parity.GradientComparison,
    "divergence": parity.Divergence,
    "cause": parity.Cause,
    "folder_check": certificate.FolderCheck,
    "change": certificate.Change,
}
JUDGED = {
    "tensor": {"ok"},
    "agreement": {"ok"},
    "measurement": {"ok"},
    "gradient": {"ok"},
    "folder_check": {"ok", "verdict"},
}
"""What is added to the fields in JSON."""


def written(found: Parity) -> dict[str, Any]:
    """The JSON as a script reads it."""
    return json.loads(json.dumps(found.to_json(), allow_nan=False))


def errors(facts: object, validator: jsonschema.Draft202012Validator = VALIDATOR) -> list[str]:
    return [f"{one.json_path}: {one.message}" for one in validator.iter_errors(facts)]


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object of the schema that lists its properties, at any depth."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["properties"]["schema"]["const"] == parity.SCHEMA


def test_every_object_is_closed_complete_and_described() -> None:
    found = list(objects(SCHEMA))
    assert len(found) > len(CLASSES)
    for one in found:
        assert one["additionalProperties"] is False, one["description"]
        assert one["required"] == list(one["properties"])
        assert all(facts["description"].endswith(".") for facts in one["properties"].values())


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_and_its_part_have_the_same_fields(name: str) -> None:
    fields = {field.name for field in dataclasses.fields(CLASSES[name])}
    assert set(SCHEMA["$defs"][name]["properties"]) == fields | JUDGED.get(name, set())


def test_a_parity_has_the_schema_s_fields() -> None:
    fields = {field.name for field in dataclasses.fields(Parity)}
    assert set(SCHEMA["properties"]) == fields | {"schema", "ok", "verdict"}


@pytest.mark.parametrize(
    "make", [reports.good, reports.transposed, reports.weights_only, reports.not_finite, reports.relabelled]
)
def test_results_of_every_kind_are_valid(make: Any) -> None:
    assert errors(written(make())) == []


def test_numbers_that_are_not_finite_are_words() -> None:
    facts = written(reports.not_finite())
    said = {row["b"] for row in facts["measurements"] if isinstance(row["b"], str)}
    assert said == {"nan", "inf"}
    facts["measurements"][0]["b"] = "-inf"
    assert errors(facts) == []
    facts["measurements"][0]["b"] = "NaN"
    assert errors(facts) != []


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the objects of a JSON value are; of a list only its first element."""
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    elif isinstance(value, list) and value:
        yield from paths(value[0], (*path, 0))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


MAPS = ("files", "dtypes", "limits", "versions")
FAILED = written(
    dataclasses.replace(
        reports.transposed(3),
        tensors=tuple(one for one in reports.transposed(3).tensors if not one.ok),
        config=(parity.ConfigDifference("hidden_act", "a", "b"),),
        labels=reports.relabelled().labels,
        measurements=reports.transposed(3).measurements[-1:],
        gradients=reports.transposed(3).gradients[-1:],
    )
)
PLACES = [path for path in paths(FAILED) if not path or path[-1] not in MAPS]


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)) or "root")
def test_a_field_more_or_less_or_of_another_type_is_invalid(path: tuple[Any, ...]) -> None:
    for key in list(at(FAILED, path)):
        facts = copy.deepcopy(FAILED)
        del at(facts, path)[key]
        assert errors(facts) != [], f"without {key}"
        facts = copy.deepcopy(FAILED)
        at(facts, path)[key] = object()
        anything = path[:1] == ("config",) and key in ("a", "b")
        assert (errors(facts) == []) == anything, f"{key} may be anything"
    facts = copy.deepcopy(FAILED)
    at(facts, path)["new"] = 1
    assert errors(facts) != []


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and its conversion."""
    folder, head = tmp_path_factory.mktemp("schema"), "BertForSequenceClassification"
    checkpoints.save(folder / "a", head, checkpoints.state_dict(head, "bfloat16"))
    assert checkpoints.call("pt2tf", folder / "a", folder / "b", "--quiet") == 0
    return folder / "a", folder / "b"


def test_a_real_comparison_is_valid(pair: tuple[Path, Path]) -> None:
    facts = written(verify_checkpoint(*pair, level="weights"))
    assert errors(facts) == []
    assert facts["ok"]
    assert (facts["labels"]["state"], facts["tokenizer"]["state"]) == ("same", "not compared")


def test_real_tensors_that_differ_are_valid(pair: tuple[Path, Path], tmp_path: Path) -> None:
    head = "BertForSequenceClassification"
    tensors = checkpoints.state_dict(head)
    tensors["classifier.bias"][3] = math.nan
    tensors["classifier.weight"][:] = math.inf
    tensors["bert.pooler.dense.weight"][:] = 0
    del tensors["bert.pooler.dense.bias"]
    checkpoints.save(tmp_path / "c", head, tensors, hidden_act="relu")
    found = verify_checkpoint(pair[0], tmp_path / "c", level="weights")
    facts = written(found)
    assert errors(facts) == []
    assert {row["state"] for row in facts["tensors"]} == {"different", "only in A"}
    assert not facts["ok"]


def test_a_folder_check_is_valid(pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert errors(json.loads(json.dumps(check_checkpoint(pair[1]).to_json())), FOLDER_CHECK) == []
    assert checkpoints.call("pt2tf", pair[0], tmp_path / "d", "--quiet") == 0
    (tmp_path / "d" / "config.json").unlink()
    facts = json.loads(json.dumps(check_checkpoint(tmp_path / "d").to_json()))
    assert errors(facts, FOLDER_CHECK) == []
    assert facts["changes"]
    assert errors({**facts, "more": 1}, FOLDER_CHECK) != []


@pytest.mark.parametrize("make", [reports.good, reports.transposed])
def test_a_certificate_is_valid(make: Any, pair: tuple[Path, Path]) -> None:
    proof = certificate.certificate(make())
    found = dataclasses.replace(check_checkpoint(pair[1]), parity=proof)
    assert errors(json.loads(json.dumps(found.to_json())), FOLDER_CHECK) == []
    assert errors({**found.to_json(), "parity": {**proof, "more": 1}}, FOLDER_CHECK) != []

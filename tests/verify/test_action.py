"""The GitHub action: its structure, and every step's script run here as a runner would run it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import yaml

ACTION = yaml.safe_load(Path(__file__).parents[2].joinpath("action.yml").read_text())
STEPS = ACTION["runs"]["steps"]
SCRIPTS = [step for step in STEPS if "run" in step]
EXPRESSION = re.compile(r"\$\{\{ (inputs|steps\.(?P<step>\w+)\.outputs)\.(?P<name>[\w-]+) \}\}")
HOSTILE = 'x\'; touch "pwned"; $(touch pwned) `touch pwned` ${{ inputs.args }} && touch pwned #'


@dataclass
class Job:
    """A runner's view of one use of the action."""

    folder: Path
    inputs: dict[str, str]
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)

    def value(self, text: str) -> str:
        def of(found: re.Match[str]) -> str:
            if found["step"]:
                return self.outputs.get(found["step"], {}).get(found["name"], "")
            return self.inputs[found["name"]]

        return EXPRESSION.sub(of, text)

    def run(self, name: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """One step, with the shell and the options that GitHub gives `shell: bash`."""
        step = next(step for step in STEPS if step.get("name") == name)
        output = self.folder.parent / f"output-{len(self.outputs)}"
        output.touch()
        given = {key: self.value(value) for key, value in step["env"].items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], cwd=self.folder, check=False,
            capture_output=True, text=True,
            env={**os.environ, "PATH": path, **environment, **given, "GITHUB_OUTPUT": str(output)},
        )  # fmt: skip
        lines = output.read_text().splitlines()
        self.outputs[step.get("id", name)] = dict(line.split("=", 1) for line in lines)
        return done


@pytest.fixture
def job(tmp_path: Path) -> Job:
    inputs = {name: str(facts.get("default", "")) for name, facts in ACTION["inputs"].items()}
    folder = tmp_path / "workspace"
    head = "BertForTokenClassification"
    checkpoints.save(folder / "source", head, checkpoints.state_dict(head))
    return Job(folder, {**inputs, "source": "source", "level": "weights"})


def test_it_is_a_composite_action() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert set(ACTION) == {"name", "description", "branding", "inputs", "outputs", "runs"}
    assert [name for name, facts in ACTION["inputs"].items() if facts.get("required")] == ["source"]
    defaults = {name: facts["default"] for name, facts in ACTION["inputs"].items() if "default" in facts}
    assert all(isinstance(value, str) for value in defaults.values())
    assert (defaults["target"], defaults["install"], defaults["level"]) == ("tf", "bertconv[all]", "auto")
    assert all(facts["description"] for facts in (*ACTION["inputs"].values(), *ACTION["outputs"].values()))


def test_every_step_is_a_script_with_a_shell_or_an_action_of_github() -> None:
    for step in STEPS:
        if "run" in step:
            assert step["shell"] == "bash"
        else:
            assert re.fullmatch(r"actions/(setup-python|upload-artifact)@v\d+", step["uses"])
    assert len(SCRIPTS) == 3


@pytest.mark.parametrize("step", SCRIPTS, ids=lambda step: step["name"])
def test_no_input_is_text_of_a_script(step: dict[str, Any]) -> None:
    assert "${{" not in step["run"]
    assert all(EXPRESSION.fullmatch(value) for value in step["env"].values())
    assert all(f'"${name}"' in step["run"] or f"${{{name}" in step["run"] for name in step["env"])
    subprocess.run(["bash", "-n", "-c", step["run"]], check=True)


def test_every_expression_names_an_input_or_an_output_that_exists() -> None:
    text = yaml.safe_dump(ACTION)
    found = list(EXPRESSION.finditer(text))
    assert len(found) == text.count("${{")
    steps = {step["id"]: step for step in STEPS if "id" in step}
    used = {one["name"] for one in found if not one["step"]}
    assert used == set(ACTION["inputs"])
    assert all(f'"{one["name"]}"' in steps[one["step"]]["run"] for one in found if one["step"])


def test_reports_are_kept_whatever_the_verdict() -> None:
    upload = STEPS[-1]
    assert upload["if"].startswith("always()")
    assert upload["with"]["path"] == "${{ steps.verify.outputs.folder }}"


def test_convert_and_verify(job: Job) -> None:
    done = job.run("Convert")
    assert done.returncode == 0, done.stderr
    assert (job.folder / "bertconv-out" / "tf_model.h5").is_file()
    done = job.run("Verify")
    assert done.returncode == 0, done.stderr
    assert "The same weights" in done.stdout
    outputs = job.outputs["verify"]
    assert outputs["verdict"].startswith("The same weights: 39/39 tensors equal, bit for bit")
    assert (job.folder / outputs["report"]).read_text().startswith("<!DOCTYPE html>")
    names = sorted(path.name for path in (job.folder / outputs["folder"]).iterdir())
    assert names == ["parity.html", "parity.json", "parity.xml"]
    assert not (job.folder / "pwned").exists()
    assert checkpoints.run("verify", job.folder / "bertconv-out").code == 0  # the reports lie beside it


def test_another_model_fails_the_job_and_leaves_reports_and_outputs(job: Job) -> None:
    assert job.run("Convert").returncode == 0
    other = checkpoints.state_dict("BertForTokenClassification", seed=3)
    checkpoints.save(job.folder / "source", "BertForTokenClassification", other)
    done = job.run("Verify")
    assert done.returncode == 1
    outputs = job.outputs["verify"]
    assert outputs["verdict"].startswith("Not the same model: first at embeddings.word")
    facts = json.loads((job.folder / outputs["folder"] / "parity.json").read_text())
    assert facts["ok"] is False
    assert " ".join(facts["verdict"].split()) == outputs["verdict"]
    assert (job.folder / outputs["report"]).is_file()


def test_what_cannot_be_read_fails_with_its_own_code(job: Job) -> None:
    (job.folder / "bertconv-out").mkdir()
    done = job.run("Verify")
    assert done.returncode not in {0, 1, 9}
    assert done.stderr.startswith("Error: ")
    assert job.outputs["verify"] == {}


def test_arguments_are_split_and_passed_on(job: Job) -> None:
    job.inputs |= {"target": "pt", "output": "out of it/", "args": "\n --allow-unknown  *\n"}
    assert job.run("Convert").stderr.startswith("Error: '*' is not a regular expression")  # no list of files
    job.inputs["args"] = "--dtype float64\n"
    assert job.run("Convert").returncode == 0
    assert checkpoints.written(job.folder / "out of it")["classifier.bias"].dtype == "float64"
    job.inputs["verify-args"] = "--head BertModel --quiet"
    done = job.run("Verify")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("The same ")
    assert len(done.stdout.splitlines()) == 1
    assert job.outputs["verify"]["report"] == "out of it-parity/parity.html"
    assert json.loads((job.folder / "out of it-parity/parity.json").read_text())["head"] == "BertModel"


@pytest.mark.parametrize("name", ["source", "target", "output", "level", "args", "verify-args"])
def test_no_input_is_run_by_the_shell(job: Job, name: str) -> None:
    job.inputs[name] = HOSTILE
    for step in ("Convert", "Verify"):
        job.run(step)
    assert not list(job.folder.rglob("pwned"))


def test_a_source_that_looks_like_an_option_is_none(job: Job) -> None:
    job.inputs["source"] = "--help"
    done = job.run("Convert")
    assert done.returncode != 0
    assert "Usage" not in done.stdout


@pytest.mark.parametrize("requirement", ["bertconv[all]", "./wheels/x.whl", HOSTILE, "--index-url=x"])
def test_pip_is_given_one_requirement(job: Job, tmp_path: Path, requirement: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python").write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    (tools / "python").chmod(0o755)
    job.inputs["install"] = requirement
    done = job.run("Install bertconv", PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
    assert done.stdout.splitlines() == ["-m", "pip", "install", "--", requirement]
    assert not list(job.folder.rglob("pwned"))

"""examples/ci: validated without GitHub, and executed with a stand-in for its client."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from slmflow.config import compose
from slmflow.paths import PROJECT
from tests.fixtures.project import Sandbox

FOLDER = PROJECT / "examples" / "ci"
ON_PULL_REQUEST = FOLDER / "convert_on_pull_request.yml"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
VALIDATOR = "check-jsonschema==0.39.0"
# In place of `make run`, which makes an environment, and of GitHub's client.
MAKE = f"#!/bin/sh\nmlflow run {PROJECT} --env-manager local ${{2#ARGS=}}\n"
GH = '#!/bin/sh\necho "$@" > gh.arguments\n'


def job(file: Path) -> dict[str, Any]:
    [only] = yaml.safe_load(file.read_text())["jobs"].values()
    assert isinstance(only, dict)
    return only


def commands(file: Path) -> list[str]:
    return [step["run"] for step in job(file)["steps"] if "run" in step]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_options_are_keys_of_the_config(file: Path) -> None:
    [make] = [line for line in commands(file) if line.startswith("make run ")]
    text = make.replace("$MODEL", "tiny_phi3").replace("$TARGET", "cpu_int4")
    text = text.replace("${{ matrix.model }}", "tiny_phi3").replace(
        "${{ matrix.target }}", "cpu_int4"
    )
    text = re.sub(r"\$\{\{.*?\}\}", "1", text)
    [arguments] = [word.removeprefix("ARGS=") for word in shlex.split(text) if "ARGS=" in word]
    overrides = [word for word in arguments.split() if "=" in word]
    assert len(overrides) >= 3
    compose.load(overrides)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_jobs_have_a_time_limit_and_few_permissions(file: Path) -> None:
    workflow = yaml.safe_load(file.read_text())
    assert job(file)["timeout-minutes"] <= 360
    assert workflow["permissions"].pop("contents") == "read"
    assert workflow["permissions"] in ({}, {"pull-requests": "write"})


@pytest.mark.long
def test_pull_request_gets_the_comparison(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, {"MODEL": "tiny_phi3", "TARGET": "cpu_int4", "RUN_NAME": "pr-7"})
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in (("make", MAKE), ("gh", GH)):
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "examples").symlink_to(PROJECT / "examples")
    convert, comment = (
        line.replace("${{ github.event.number }}", "7") for line in commands(ON_PULL_REQUEST)
    )

    sandbox.run_shell(f"PATH={tools}:$PATH; {convert}").check()
    sandbox.run_shell(f"set -e; PATH={tools}:$PATH PULL_REQUEST=7; {comment}").check()

    text = (tmp_path / "comment.md").read_text()
    assert text.startswith("**pr-7**: finished")
    assert "# tiny\\_phi3 on cpu\\_int4" in text
    assert (tmp_path / "gh.arguments").read_text().startswith("pr comment 7 --edit-last")
    gate = convert.replace("max_drop=0.05", "min=2")
    assert sandbox.run_shell(f"PATH={tools}:$PATH; {gate}").status == 1
    sandbox.run_shell(f"set -e; PATH={tools}:$PATH PULL_REQUEST=7; {comment}").check()
    text = (tmp_path / "comment.md").read_text()
    quoted = [line for line in text.splitlines() if line.startswith("> ")]
    assert "registry.gate.exact_match.min=2" in "".join(quoted)
    assert "# tiny\\_phi3 on cpu\\_int4" in text


@pytest.mark.long
def test_workflows_fit_the_schema_of_github() -> None:
    uv = ["uv", "run", "--quiet", "--no-project", "--python", "3.11", "--with", VALIDATOR]
    check = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS]
    done = subprocess.run([*uv, *check], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

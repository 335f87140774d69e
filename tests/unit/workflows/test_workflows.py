"""The workflows of the CI: what a reviewer of a supply chain and of a shell script looks for."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}")
WRITTEN_BY_OTHERS = re.compile(r"\$\{\{[^}]*(inputs|github\.event|github\.head_ref)[^}]*\}\}")
MAKE = re.compile(r"\bmake ([a-z-]+)")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return found


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job["steps"]


def scripts(workflow: dict[str, Any]) -> list[str]:
    return [step["run"] for step in steps(workflow) if "run" in step]


def test_there_are_workflows() -> None:
    assert {path.stem for path in FILES} >= {"ci", "image", "train"}


def test_actions_are_pinned_by_commit(workflow: dict[str, Any]) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert [name for name in used if not PINNED.fullmatch(name)] == []


def test_rights_are_granted_by_job_and_no_job_lasts_for_ever(workflow: dict[str, Any]) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 360
    checkouts = [step for step in steps(workflow) if "checkout" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_no_script_holds_text_that_others_write(workflow: dict[str, Any]) -> None:
    assert [text for text in scripts(workflow) if WRITTEN_BY_OTHERS.search(text)] == []


def test_scripts_pass_shellcheck(workflow: dict[str, Any]) -> None:
    for text in scripts(workflow):
        checked = subprocess.run(
            [SHELLCHECK, "--shell=bash", "-"],
            input=f"set -eo pipefail\n{text}", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stdout


def test_they_call_targets_that_exist(workflow: dict[str, Any]) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for text in scripts(workflow) for name in MAKE.findall(text)}
    assert {name for name in targets if not re.search(rf"^{name}:", makefile, re.M)} == set()


def test_the_pattern_finds_what_it_looks_for() -> None:
    assert WRITTEN_BY_OTHERS.search("echo ${{ github.event.head_commit.message }}")
    assert not WRITTEN_BY_OTHERS.search("echo ${{ github.sha }}")
    assert not PINNED.fullmatch("actions/checkout@v4")

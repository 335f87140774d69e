"""The Dockerfile passes hadolint, and its context holds what it copies and nothing else."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HADOLINT = Path(sysconfig.get_path("scripts")) / "hadolint"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def hadolint(text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([HADOLINT, "-"], input=text, capture_output=True, text=True, check=False)


def copied() -> set[str]:
    """Sources of COPY in the build context."""
    found = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, flags=re.MULTILINE):
        found.update(line.split()[:-1])
    return found


def allowed() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_hadolint_finds_nothing() -> None:
    done = hadolint(DOCKERFILE)
    assert done.stdout == ""
    assert done.returncode == 0


def test_hadolint_would_find_something() -> None:
    assert "DL3002" in hadolint(DOCKERFILE.replace("USER 10001:0", "USER root")).stdout


def test_the_context_is_what_is_copied() -> None:
    first, *others = allowed()
    assert first == "*"
    let_in = {line[1:] for line in others if line.startswith("!")}
    assert let_in == copied()
    assert all((ROOT / name).exists() for name in let_in)
    assert [line for line in others if not line.startswith("!")] == [
        "**/__pycache__",
        "**/*.py[co]",
    ]


def test_the_context_is_small_and_is_kept_in_git() -> None:
    listing = ["git", "ls-files", "--others", "--exclude-standard", "--", *copied()]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git work tree")
    files = [path for name in copied() for path in [ROOT / name, *(ROOT / name).rglob("*")]]
    sizes = [p.stat().st_size for p in files if p.is_file() and p.suffix != ".pyc"]
    assert sum(sizes) < 5_000_000


def test_the_code_comes_last() -> None:
    """What comes after it is built anew with each commit."""
    shipped = DOCKERFILE.partition("AS image")[2]
    after = shipped.partition("COPY --from=code")[2]
    assert re.findall(r"^([A-Z]+) ", after, flags=re.MULTILINE) == ["ARG", "ARG", "ARG", "LABEL"]


@pytest.mark.parametrize("name", ["version", "revision", "created", "title", "licenses"])
def test_labels(name: str) -> None:
    assert f"org.opencontainers.image.{name}=" in DOCKERFILE


def test_no_build_argument_stays_in_the_image() -> None:
    shipped = DOCKERFILE.partition("AS image")[2]
    assert re.findall(r"^ARG (\w+)", shipped, flags=re.MULTILINE) == [
        "VERSION",
        "REVISION",
        "CREATED",
    ]

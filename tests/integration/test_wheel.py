"""The built wheel, and the installed command, away from the source tree."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.integration


def run(*command: str | Path, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path}
    options = {"cwd": cwd, "env": environment, "capture_output": True, "text": True}
    return subprocess.run([*map(str, command)], **options, timeout=300, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    uv = shutil.which("uv") or ROOT / ".tools" / "bin" / "uv"
    if not Path(uv).exists():
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    result = run(uv, "build", "--wheel", "--out-dir", folder, ROOT, cwd=folder)
    assert result.returncode == 0, result.stderr
    (file,) = folder.glob("*.whl")
    return file


def test_the_wheel_carries_its_settings(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "from naics_job.cli.app import main; main()"
    (tmp_path / "elsewhere").mkdir()
    arguments = ["tools", "config", "--profile", "smoke"]
    result = run(
        *[sys.executable, "-c", code, *arguments],
        cwd=tmp_path / "elsewhere",
        path=str(tmp_path / "site"),
    )
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "site" / "naics_job" / "conf" / "profile" / "smoke.yaml") in result.stdout


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        names = archive.namelist()
    assert tops == {"naics_job", next(top for top in tops if top.endswith(".dist-info"))}
    assert "naics_job/taxonomy/bundled.csv" in names
    assert "naics_job/py.typed" in names


@pytest.mark.parametrize("words", [[], ["train"], ["train-seq"], ["evaluate"], ["search"]])
def test_the_installed_command_has_help(words: list[str], tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "naics-embedder"
    if not script.exists():
        pytest.skip("the project is not installed in this environment")
    result = run(script, *words, "--help", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Usage: naics-embedder" in result.stdout

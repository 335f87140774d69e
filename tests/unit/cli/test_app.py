"""The command line as a user meets it: help, exit codes, and what it does not import."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-c", "from naics_job.cli.app import main; main()"]
ROOT = Path(__file__).parents[3]
HEAVY = (
    "torch",
    "lightning",
    "transformers",
    "peft",
    "pyarrow",
    "numpy",
    "scipy",
    "pydantic",
    "kubernetes",
)
JOB = ("render", "submit", "status", "logs", "wait", "cancel", "list", "check")
COMMANDS = [
    [],
    ["train"],
    ["train-seq"],
    ["launch"],
    ["evaluate"],
    ["search"],
    ["data"],
    *[["data", name] for name in ("preprocess", "relations", "distances", "triplets", "all")],
    ["job"],
    *[["job", name] for name in JOB],
    ["tools"],
    *[["tools", name] for name in ("config", "gpu", "visualize", "investigate")],
]


def run(*arguments: str, cwd: Path, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = COMMAND if code is None else [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("NAICS_DEBUG", None)
    options = {"cwd": cwd, "env": environment, "capture_output": True, "text": True}
    return subprocess.run([*command, *arguments], **options, timeout=60, check=False)


def test_help_of_every_command(tmp_path: Path) -> None:
    """In one process, to be quick; the installed script is tested with the wheel."""
    code = """
        import sys
        from naics_job.cli.app import app
        for words in COMMANDS:
            print("== " + " ".join(words))
            try:
                app([*words, "--help"])
            except SystemExit as stop:
                assert stop.code == 0, (words, stop.code)
        print("loaded: " + " ".join(name for name in HEAVY if name in sys.modules))
    """
    names = f"COMMANDS = {COMMANDS!r}\nHEAVY = {HEAVY!r}\n"
    result = run(cwd=tmp_path, code=names + textwrap.dedent(code))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("Usage:") == len(COMMANDS)
    assert result.stdout.splitlines()[-1].strip() == "loaded:"
    for option in ("--config", "--profile", "--ckpt-path", "--skip-validation", "--verbose"):
        assert result.stdout.count(f"  {option} ") >= 2  # train and train-seq
    for option in ("--auto", "--gpu-memory", "--target-effective-batch", "--apply", "--format"):
        assert option in result.stdout


@pytest.mark.parametrize("arguments", [["tools", "config"], ["train", "loss.temprature=1"]])
def test_settings_need_no_heavy_import(arguments: list[str], tmp_path: Path) -> None:
    code = f"""
        import sys
        from naics_job.cli.app import app
        try:
            app({arguments!r})
        except SystemExit:
            pass
        print("loaded: " + " ".join(name for name in {HEAVY!r} if name in sys.modules))
    """
    result = run(cwd=tmp_path, code=textwrap.dedent(code))
    assert result.stdout.splitlines()[-1].strip() == "loaded:"


def test_a_wrong_setting_ends_with_78_and_two_lines(tmp_path: Path) -> None:
    result = run("train", "loss.temprature=0.5", cwd=tmp_path)
    assert result.returncode == 78
    first, second = result.stderr.splitlines()
    assert first.startswith("error: loss.temprature=0.5")
    assert second.startswith("  hint: did you mean loss.temperature?")
    assert result.stdout == ""


def test_options_of_the_guide_reach_the_settings(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.yaml").write_text("seed: 5\n")
    result = run(
        *["tools", "config", "training.learning_rate=1e-4", "--profile", "smoke"],
        *["--config", "mine", "--format", "json", "experiment_name=007"],
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    shown = json.loads(result.stdout)
    assert shown["config"]["experiment_name"] == "007"
    assert shown["config"]["training"]["learning_rate"] == 1e-4
    assert shown["provenance"]["seed"] == "file"
    assert shown["provenance"]["data.max_codes"] == "profile"
    assert shown["sadc"]["num_codes"] == 60


def test_ctrl_c_ends_with_130_and_one_line(tmp_path: Path) -> None:
    code = """
        import sys, time, types
        module = types.ModuleType("naics_job.training.run")
        def run_training(loaded, options):
            print("started", flush=True)
            time.sleep(50)
        module.RunOptions = lambda ckpt_path, skip_validation: None
        module.run_training = run_training
        sys.modules["naics_job.training.run"] = module
        from naics_job.cli.app import main
        main()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), "train"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "interrupted\n"

"""Wrong settings: each ends with exit code 78, naming key, value, place and fix."""

from pathlib import Path

import pytest

from naics_job.config.load import load_config
from naics_job.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(
    path: Path | None = None, profile: str | None = None, overrides: tuple[str, ...] = ()
) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, profile, overrides)
    assert caught.value.exit_code == 78
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("loss.temprature=0.5", "loss.temperature"),
        ("data.batch_size=3", "data_loader.batch_size"),
        ("training.max_epochs=3", "training.trainer.max_epochs"),
        ("training.trainer.max_epoch=3", "training.trainer.max_epochs"),
        ("loss.shape=linear", "curriculum.anneal.shape"),
        ("fn_num_clusters=8", "curriculum.fn_num_clusters"),
        ("data_loader.tokenization.max_tokens.titel=8", "max_tokens.title"),
        ("trainer.devices=2", "training.trainer.devices"),
        ("los.temperature=1", "loss.temperature"),
        ("los={curvature: 1, base_margin: 1}", "the group loss"),
        ("data.sectors[0]=11", "data.sectors"),
    ],
)
def test_unknown_key_names_the_nearest(override: str, nearest: str) -> None:
    error = refusal(overrides=(override,))
    assert override.partition("=")[0] in str(error.args[0])
    assert nearest in str(error)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=abc", "a whole number"),
        ("seed=1.5", "a whole number"),
        ("seed=null", "a whole number"),
        ("loss.temperature=warm", "a number"),
        ("loss.temperature=null", "a number"),
        ("loss.temperature={a: 1}", "a number"),
        ("loss.temperature=[1]", "a number"),
        ("loss.learn_curvature=maybe", "true or false"),
        ("experiment_name=null", "text"),
        ("data.sectors=11", "a list"),
        ("data.max_codes=many", "a whole number or null"),
        ("data_loader=3", "data_loader.batch_size"),
        ("data_loader=", "not a group of settings"),
        ("training.trainer=null", "training.trainer.max_epochs"),
    ],
)
def test_wrong_type_names_key_value_and_type(override: str, expected: str) -> None:
    error = refusal(overrides=(override,))
    key, _, value = override.partition("=")
    assert f"{key}={value or 'null'}" in str(error.args[0])
    assert expected in str(error)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("loss.temperature=-1", "in (0, 10]"),
        ("loss.temperature=0", "in (0, 10]"),
        ("data_loader.val_split=0.5", "in [0, 0.5)"),
        ("data_loader.streaming.cache_gb=0", "above 0"),
        ("data_loader.streaming.cache_dir=s3://bucket/cache", "a local folder or null"),
        ("curriculum.phase1_end=0.9", "phase1_end <= phase2_end"),
        ("experiment_name=a/b", "letters, digits"),
        ("experiment_name=", "letters, digits"),
        ("model.moe.top_k=9", "model.moe.num_experts"),
        ("training.trainer.devices=0", "a number of devices"),
        ("training.trainer.devices=[]", "a list of indices"),
        ("training.trainer.precision=33", "16-mixed"),
        ("training.trainer.accelerator=gpux", "one of auto, cpu"),
        ("training.trainer.max_epochs=0", "at or above 1"),
        ("training.trainer.max_epochs=true", "at or above 1"),
        ("training.trainer.max_epochs=-1", "max_steps"),
        ("training.trainer.max_epochs=null", "max_steps"),
        ("training.trainer.max_steps=0", "-1 for no limit"),
        ("training.trainer.min_steps=-1", "at or above 0"),
        ("training.trainer.overfit_batches=-2", "or 0"),
        ("training.trainer.max_time=soon", "DD:HH:MM:SS"),
        ("training.trainer.max_time={fortnights: 2}", "DD:HH:MM:SS"),
        ("training.trainer.limit_train_batches=0", "at or above 1"),
        ("training.trainer.limit_train_batches=1.5", "a share such as 0.5"),
        ("dirs.output_dir=s3:/bucket", "a URL with ://"),
        ("dirs.log_dir=s3://bucket/logs", "a local folder"),
        ("training.trainer.enable_progress_bar=3", "true, false or null"),
        ("metrics.port=70000", "in [0, 65000]"),
        ("metrics.port=-1", "in [0, 65000]"),
        ("metrics.port_taken=ignore", "one of next, fail"),
        ("metrics.stall_s=0", "at or above 1"),
        ("metrics.start_s=0.5", "at or above 1"),
        ("metrics.linger_s=-1", "at or above 0"),
        ("metrics.pushgateway=pushgateway:9091", "a URL such as http://"),
    ],
)
def test_value_out_of_range(override: str, expected: str) -> None:
    error = refusal(overrides=(override,))
    assert override.partition("=")[0] in str(error.args[0])
    assert expected in str(error)


@pytest.mark.parametrize(
    ("override", "reason", "instead"),
    [
        ("logger=false", "builds its own loggers", "dirs.log_dir"),
        ("num_sanity_val_steps=0", "no validation loader", "leave it out"),
        ("check_val_every_n_epoch=3", "no validation loader", "model.eval_every_n_epochs"),
        ("enable_checkpointing=false", "own checkpoints", "checkpoint.max_lost_steps"),
        ("default_root_dir=/tmp", "own folders", "dirs.*"),
        ("callbacks=[a]", "objects", "training.early_stopping"),
    ],
)
def test_a_trainer_argument_of_ours_says_why_and_what_instead(
    override: str, reason: str, instead: str
) -> None:
    error = refusal(overrides=(f"training.trainer.{override}",))
    assert f"training.trainer.{override}" in str(error.args[0])
    assert reason in str(error.args[0])
    assert instead in error.hint


@pytest.mark.parametrize(
    ("precision", "nearest"),
    [
        ("64-true", "32-true"),
        ("64", "32-true"),
        ("16-true", "16-mixed"),
        ("bf16-true", "bf16-mixed"),
        ("transformer-engine", "bf16-mixed"),
        ("transformer-engine-float16", "16-mixed"),
    ],
)
def test_a_precision_that_would_convert_the_weights(precision: str, nearest: str) -> None:
    error = refusal(overrides=(f"training.trainer.precision={precision}",))
    assert precision in str(error.args[0])
    assert "losses stay float32" in str(error.args[0])
    assert error.hint == f"the nearest is training.trainer.precision={nearest}"


@pytest.mark.parametrize("argument", ["data_loader.batch_size", "=3", "loss.=3", ".x=1"])
def test_an_argument_that_is_no_setting(argument: str) -> None:
    assert "KEY=VALUE" in str(refusal(overrides=(argument,)))


@pytest.mark.parametrize(
    "override", ["dirs.log_dir=${dirs.nowhere}", "dirs.log_dir=${", "seed=${dirs.log_dir}"]
)
def test_a_reference_that_leads_nowhere(override: str) -> None:
    assert override.partition("=")[0] in str(refusal(overrides=(override,)).args[0])


def test_a_value_left_open() -> None:
    assert "dirs.log_dir=???" in str(refusal(overrides=("dirs.log_dir=???",)))


def test_a_setting_is_not_a_group() -> None:
    assert "seed={value: 3}" in str(refusal(overrides=("seed.value=3",)))


def test_bad_yaml_in_an_argument() -> None:
    assert "training.trainer.devices" in str(refusal(overrides=("training.trainer.devices=[0",)))


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("seed: 1\nloss:\n  temperature: [0.1\n", 4, "YAML"),
        ("seed: 1\nloss:\n\ttemperature: 0.1\n", 3, "YAML"),
        ("seed: 1\nloss:\n  temprature: 0.1\n", 3, "loss.temperature"),
        ("seed: 1\nloss:\n  temperature: hot\n", 3, "a number"),
        ("seed: 1\nloss:\n", 2, "group"),
        ("seed: 1\nseed: 2\n", 2, "twice"),
        ("seed: 1\n? [a]\n: 2\n", 2, "word"),
    ],
)
def test_a_bad_file_is_refused_by_line(text: str, line: int, word: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    error = refusal(file)
    assert f"{file}:{line}" in str(error.args[0])
    assert word in str(error)


@pytest.mark.parametrize("content", [b"- seed\n", b"seed\n", b"\xff\xfe\x00", b"a: &a [*a]\n"])
def test_a_file_without_settings(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    assert str(file) in str(refusal(file))


def test_missing_file(tmp_path: Path) -> None:
    error = refusal(tmp_path / "nowhere.yaml")
    assert "nowhere.yaml does not exist" in str(error)


def test_folder_without_config(tmp_path: Path) -> None:
    assert "holds no config.yaml" in str(refusal(tmp_path))


@pytest.mark.parametrize("name", ["smok", "../config", ""])
def test_unknown_profile_lists_the_known(name: str) -> None:
    error = refusal(profile=name)
    assert repr(name) in str(error)
    assert "quickstart" in error.hint
    assert "smoke" in error.hint

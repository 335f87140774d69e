"""Settings from file, profile and arguments: values, precedence, origin."""

import json
from pathlib import Path

import pytest
import yaml

from naics_job.config.load import (
    config_hash,
    load_config,
    packaged_conf,
    profile_names,
    to_json,
    to_plain,
    to_yaml,
)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_packaged_settings_load_and_are_all_default() -> None:
    loaded = load_config()
    assert loaded.config.experiment_name == "naics"
    assert loaded.config.dirs.data_dir in loaded.config.data_loader.streaming.descriptions
    assert set(loaded.provenance.values()) == {"default"}


def test_a_load_leaves_nothing_behind_for_the_next() -> None:
    before = load_config()
    changed = load_config(None, "smoke", ["seed=3", "training.trainer.max_epochs=77"])
    changed.config.training.trainer["max_epochs"] = 78
    assert load_config() == before != changed
    assert before.config.training.trainer["max_epochs"] not in (77, 78)


def test_the_last_place_wins_and_is_named(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("seed: 1\nloss:\n  temperature: 0.3\n  base_margin: 0.1\n")
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "warm.yaml").write_text("loss:\n  temperature: 0.4\n")
    loaded = load_config(file, "warm", ["seed=3", "seed=4"])
    assert loaded.config.seed == 4
    assert loaded.config.loss.temperature == 0.4
    assert loaded.config.loss.base_margin == 0.1
    assert loaded.provenance["seed"] == "override"
    assert loaded.provenance["loss.temperature"] == "profile"
    assert loaded.provenance["loss.base_margin"] == "file"
    assert loaded.provenance["loss.curvature"] == "default"
    assert loaded.sources[1:] == (str(file), str(tmp_path / "profile" / "warm.yaml"))


def test_the_working_folder_brings_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("experiment_name: mine\n")
    loaded = load_config()
    assert loaded.config.experiment_name == "mine"
    assert loaded.provenance["experiment_name"] == "file"


def test_a_folder_with_config_yaml_is_a_config(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 9\n")
    assert load_config(tmp_path).config.seed == 9


def test_the_packaged_file_named_outright_stays_default() -> None:
    loaded = load_config(packaged_conf() / "config.yaml")
    assert set(loaded.provenance.values()) == {"default"}


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("# nothing yet\n")
    assert load_config(file).config == load_config().config


@pytest.mark.parametrize("name", ["007", "1e3", "true", "0x10", "2024-01-01"])
def test_text_stays_text(name: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"experiment_name: {name}\n")
    assert load_config(overrides=[f"experiment_name={name}"]).config.experiment_name == name
    assert load_config(file).config.experiment_name == name


def test_text_on_the_command_line_is_not_yaml() -> None:
    config = load_config(overrides=["dirs.log_dir=runs: [a] # 1", "dirs.docs_dir='x'"]).config
    assert config.dirs.log_dir == "runs: [a] # 1"
    assert config.dirs.docs_dir == "'x'"


@pytest.mark.parametrize("written", ["1e-4", "'1e-4'", "0.0001", "1.0E-4"])
def test_numbers_in_any_notation(written: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"training:\n  learning_rate: {written}\n")
    assert load_config(file).config.training.learning_rate == 1e-4


def test_a_whole_number_fits_a_float_setting() -> None:
    curvature = load_config(overrides=["loss.curvature=2"]).config.loss.curvature
    assert curvature == 2.0
    assert isinstance(curvature, float)


@pytest.mark.parametrize(
    ("written", "devices"), [("auto", "auto"), ("2", 2), ("[0,1]", [0, 1]), ("-1", -1)]
)
def test_trainer_devices(written: str, devices: object) -> None:
    loaded = load_config(overrides=[f"training.trainer.devices={written}"])
    assert loaded.config.training.trainer["devices"] == devices


def test_a_trainer_argument_without_default_can_be_added() -> None:
    loaded = load_config(overrides=["training.trainer.max_time=00:12:00:00"])
    assert loaded.config.training.trainer["max_time"] == "00:12:00:00"
    assert loaded.provenance["training.trainer.max_time"] == "override"


def test_quoted_text_in_the_trainer_is_not_a_number(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text('training: {trainer: {precision: "32", devices: 2}}\n')
    trainer = load_config(file).config.training.trainer
    assert trainer["precision"] == "32"
    assert trainer["devices"] == 2


def test_lists_replace_and_groups_merge() -> None:
    overrides = ["data.sectors=[11, 31-33]", "sampling.positives={parent: 2, child: 0}"]
    config = load_config(overrides=overrides).config
    assert config.data.sectors == ("11", "31-33")
    assert config.sampling.positives.parent == 2.0
    assert config.sampling.positives.ancestor == load_config().config.sampling.positives.ancestor


@pytest.mark.parametrize("written", ["null", "~", ""])
def test_null_where_it_is_allowed(written: str) -> None:
    assert load_config(None, "smoke", [f"data.max_codes={written}"]).config.data.max_codes is None


def test_references_follow_the_setting_they_name() -> None:
    config = load_config(overrides=["dirs.data_dir=s3://bucket/naics"]).config
    assert config.data_loader.streaming.token_dir == "s3://bucket/naics/tokens"


@pytest.mark.parametrize("name", profile_names(packaged_conf()))
def test_every_profile_loads(name: str) -> None:
    loaded = load_config(profile=name)
    assert "profile" in loaded.provenance.values()


def test_the_expected_profiles_are_there() -> None:
    assert {"smoke", "quickstart", "one-gpu", "ddp"} <= set(profile_names(packaged_conf()))


def test_printed_settings_read_back_as_the_same(tmp_path: Path) -> None:
    loaded = load_config(
        profile="smoke", overrides=["experiment_name=007", "loss.base_margin=1e-5"]
    )
    file = tmp_path / "again.yaml"
    file.write_text(to_yaml(loaded.config))
    again = load_config(file)
    assert again.config == loaded.config
    assert again.hash == loaded.hash
    assert json.loads(to_json(loaded.config)) == yaml.safe_load(to_yaml(loaded.config))
    assert json.loads(to_json(loaded.config)) == to_plain(loaded.config)


def test_the_hash_follows_values_not_notation() -> None:
    one = load_config(overrides=["loss.temperature=2e-1", "data.sectors=[11, 21]"])
    other = load_config(overrides=["loss.temperature=0.2", "data={sectors: ['11', '21']}"])
    assert one.hash == other.hash == config_hash(one.config)
    assert load_config(overrides=["loss.temperature=0.21"]).hash != one.hash

"""templates/configmap.yaml: the settings as the job reads them."""

import json
from pathlib import Path
from typing import Any

import pytest
from helm_chart import EXAMPLES, example, find, load_yaml, run_of

from naics_job.config.load import load_config


def settings(values: dict[str, Any]) -> dict[str, Any]:
    text: str = find("ConfigMap", values)["data"]["config.yaml"]
    parsed: dict[str, Any] = load_yaml(text)
    return parsed


def test_it_is_final_and_has_the_runs_name() -> None:
    config = find("ConfigMap")
    assert config["immutable"] is True
    assert config["metadata"]["name"] == run_of("PyTorchJob")["metadata"]["name"]


def test_settings_are_passed_on_as_they_are() -> None:
    config = {
        "seed": 1000000,  # toYaml would make 1e+06 of it, which is text
        "data": {"sectors": ["11", "31-33"], "max_codes": 60},
        "training": {"learning_rate": 0.00002, "trainer": {"max_epochs": -1}},
        "experiment_name": "yes: a # name",
        "model": {"gradient_checkpointing": False},
    }
    written = settings({"config": config})
    assert {key: written[key] for key in config} == config
    assert isinstance(written["seed"], int)


def test_the_bucket_names_the_folders_that_are_not_set() -> None:
    values = {"s3": {"bucket": "shop", "prefix": "a/b"}, "config": {"dirs": {"data_dir": "s3://x"}}}
    assert settings(values)["dirs"] == {
        "data_dir": "s3://x",
        "output_dir": "s3://shop/a/b/outputs",
        "checkpoint_dir": "s3://shop/a/b/checkpoints",
    }
    bare = settings({"s3": {"bucket": "shop", "prefix": ""}})["dirs"]
    assert bare["checkpoint_dir"] == "s3://shop/checkpoints"


def test_without_a_bucket_folders_are_the_users() -> None:
    folder = {"dirs": {"checkpoint_dir": "gs://mine/checkpoints"}}
    assert settings({"s3": {"bucket": ""}, "config": folder})["dirs"] == folder["dirs"]


def test_metrics_follow_the_chart() -> None:
    values = {"metrics": {"enabled": False, "port": 9500}, "config": {"metrics": {"linger_s": 3}}}
    found = {"enabled": False, "port": 9500, "port_taken": "fail", "linger_s": 3}
    assert settings(values)["metrics"] == found


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_job_takes_the_settings_of_the_examples(name: str, tmp_path: Path) -> None:
    written = settings(example(name))
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(written))
    loaded = load_config(file)
    assert loaded.config.experiment_name == example(name)["config"]["experiment_name"]

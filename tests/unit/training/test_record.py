"""The run record as a file."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

from naics_job.config.load import load_config
from naics_job.training.record import RunRecord, jsonable, record_url


def test_numbers_that_json_lacks_are_null() -> None:
    value = {"a": [math.nan, 1.5, (math.inf, -math.inf)], 3: {"b": None, "c": True, "d": "nan"}}
    text = json.dumps(jsonable(value), allow_nan=False)
    assert json.loads(text) == {
        "a": [None, 1.5, [None, None]],
        "3": {"b": None, "c": True, "d": "nan"},
    }


def test_the_file_is_valid_json_whatever_the_metrics_are(tmp_path: Path) -> None:
    config = load_config(None, "smoke", [f"dirs.output_dir={tmp_path}/out"]).config
    record = RunRecord(run_id="r", config_hash="h")
    record.metrics = {"all": {"cophenetic": math.nan, "map": 0.5}, "heldout": {}}
    url = record.write(config, time.monotonic() - 2)
    assert url == record_url(config) == f"{tmp_path}/out/smoke/run_record.json"

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(Path(url).read_text(), parse_constant=refuse)
    assert found["metrics"]["all"] == {"cophenetic": None, "map": 0.5}
    assert 2 <= found["wall_s"] < 60
    assert found["versions"]["torch"]
    assert found["status"] == "running"


def test_the_record_belongs_to_the_experiment() -> None:
    config = load_config(None, "smoke", []).config
    other = replace(config, experiment_name="other")
    assert record_url(other) == record_url(config).replace("smoke", "other")

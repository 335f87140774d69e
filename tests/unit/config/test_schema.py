"""The schema, conf/config.yaml and the code agree on which settings exist."""

import yaml

from naics_job.config.load import packaged_conf
from naics_job.config.schema import Config
from naics_job.config.suggest import known_keys
from naics_job.config.trainer import TRAINER_KEY


def leaves(values: dict[str, object], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, value in values.items():
        key = f"{prefix}{name}"
        found |= leaves(value, f"{key}.") if isinstance(value, dict) else {key}
    return found


def test_yaml_and_schema_hold_the_same_settings() -> None:
    written = leaves(yaml.safe_load((packaged_conf() / "config.yaml").read_text()))
    schema = set(known_keys(Config))
    trainer = {key for key in schema if key.startswith(TRAINER_KEY)}
    assert schema - trainer == {key for key in written if not key.startswith(TRAINER_KEY)}
    assert {key for key in written if key.startswith(TRAINER_KEY)} <= trainer

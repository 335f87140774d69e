"""The schema, conf/config.yaml and the code agree on which settings exist."""

import ast
from pathlib import Path

import pytest
import yaml

import naics_job
from naics_job.config.load import packaged_conf
from naics_job.config.schema import Config
from naics_job.config.suggest import known_keys
from naics_job.config.trainer import TRAINER_KEY
from naics_job.data.contracts import CHANNELS, DESCRIPTIONS, DISTANCES, RELATIONS, TRIPLETS

PACKAGE = Path(naics_job.__file__).parent
TABLES = (DESCRIPTIONS, RELATIONS, DISTANCES, TRIPLETS)
# Read by a name made at run time: getattr(max_tokens, channel), getattr(streaming, contract.name).
BY_NAME = {*CHANNELS, *(contract.name for contract in TABLES)}


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


@pytest.fixture(scope="module")
def names_read() -> set[str]:
    """Every attribute name read outside naics_job/config/."""
    names: set[str] = set()
    for file in PACKAGE.rglob("*.py"):
        if file.parent == PACKAGE / "config":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                names.add(node.attr)
    return names | BY_NAME


def test_every_setting_is_read_by_some_code(names_read: set[str]) -> None:
    schema = [key for key in known_keys(Config) if not key.startswith(TRAINER_KEY)]
    unread = {key for key in schema if key.rpartition(".")[2] not in names_read}
    assert not unread, "read these settings or remove them"

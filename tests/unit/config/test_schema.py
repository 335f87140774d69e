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

PACKAGE = Path(naics_job.__file__).parent
# Settings whose reader is still to be written.
UNREAD = {
    "checkpoint.every_n_steps",
    "checkpoint.keep_last",
    "curriculum.exclusion_share",
    "curriculum.fn_max_iterations",
    "curriculum.fn_num_clusters",
    "curriculum.sibling_distance_threshold",
    "data.census_timeout_s",
    "data.census_url",
    "data.max_codes",
    "data.sectors",
    "data.workbooks.cross_references",
    "data.workbooks.descriptions",
    "data_loader.batch_size",
    "data_loader.num_negatives",
    "data_loader.num_workers",
    "data_loader.streaming.descriptions",
    "data_loader.streaming.distances",
    "data_loader.streaming.relations",
    "data_loader.streaming.shard_codes",
    "data_loader.streaming.token_dir",
    "data_loader.streaming.triplets",
    "data_loader.tokenization.frozen_views",
    "data_loader.tokenization.max_tokens.description",
    "data_loader.tokenization.max_tokens.examples",
    "data_loader.tokenization.max_tokens.excluded",
    "data_loader.val_split",
    "dirs.checkpoint_dir",
    "dirs.data_dir",
    "dirs.docs_dir",
    "dirs.log_dir",
    "false_negatives.attract_weight",
    "loss.base_margin",
    "loss.hierarchy_weight",
    "loss.learn_curvature",
    "loss.load_balancing_coef",
    "loss.radius_reg_weight",
    "loss.rank_order_weight",
    "loss.temperature",
    "model.base_model_name",
    "model.base_model_sha256",
    "model.channel_dropout",
    "model.embedding_dim",
    "model.feature_dropout",
    "model.gradient_checkpointing",
    "model.lora.alpha",
    "model.lora.dropout",
    "model.lora.r",
    "model.lora.target_modules",
    "model.moe.hidden_dim",
    "model.moe.num_experts",
    "model.moe.top_k",
    "sampling.sans_static.near_max_distance",
    "sampling.sans_static.near_share",
}


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
    return names


def test_every_setting_is_read_by_some_code(names_read: set[str]) -> None:
    schema = [key for key in known_keys(Config) if not key.startswith(TRAINER_KEY)]
    unread = {key for key in schema if key.rpartition(".")[2] not in names_read}
    assert unread <= UNREAD, "read these settings or remove them"

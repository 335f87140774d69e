"""Where the phases lie, and how `tools config` shows it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from naics_job.cli.borders import Plan, planned_phases
from naics_job.cli.show_config import WIDTH, as_json, as_table, as_yaml
from naics_job.config.load import load_config
from naics_job.data.splits import split_families
from naics_job.errors import ConfigError
from naics_job.storage.files import Manifest, write_manifest
from naics_job.taxonomy.codes import bundled_titles, sector_of
from naics_job.taxonomy.tree import Taxonomy

# Spelled out so that the tests do not follow the packaged values.
GIVEN = (
    "data_loader.batch_size=32",
    "data_loader.val_split=0.05",
    "data_loader.test_split=0.1",
    "curriculum.phase1_end=0.3",
    "curriculum.phase2_end=0.7",
    "curriculum.phase3_end=1",
    "curriculum.fn_curriculum_start_epoch=0",
    "training.trainer.max_epochs=10",
    "training.trainer.accumulate_grad_batches=1",
    "training.trainer.devices=1",
)


def plan(*overrides: str) -> Plan:
    return planned_phases(load_config(overrides=[*GIVEN, *overrides]).config)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_phases_of_a_run_worked_by_hand() -> None:
    """2,125 codes. Of 1,012 six-digit ones 51 and 101 are held out, and with them 103 of the 689
    five-digit ones: 1,870 anchors, 59 steps of 32."""
    result = plan()
    assert (result.num_codes, result.num_heldout) == (2125, 152 + 103)
    assert (result.steps_per_epoch, result.total_steps) == (59, 590)
    spans = [(s.phase, s.start, s.end, s.start_step, s.end_step) for s in result.spans]
    assert spans == [(1, 0.0, 0.3, 0, 177), (2, 0.3, 0.7, 177, 413), (3, 0.7, 1.0, 413, 590)]
    assert result.spans[1].start_epoch == 3.0
    assert not result.warnings


def test_mitigation_may_end_early() -> None:
    result = plan("curriculum.phase3_end=0.9")
    assert [span.phase for span in result.spans] == [1, 2, 3, 2]
    assert "clusters off" in result.spans[-1].title
    assert result.spans[-1].end_step == result.total_steps


def test_two_phases() -> None:
    result = plan("curriculum.phase_mode=two_phase")
    assert [(span.phase, span.end) for span in result.spans] == [(1, 0.3), (2, 1.0)]


@pytest.mark.parametrize(
    ("overrides", "anchors", "processes", "assumed"),
    [
        (["training.trainer.devices=4"], 128, 4, False),
        (["training.trainer.devices=[0,1]", "training.trainer.num_nodes=2"], 128, 4, False),
        (["training.trainer.devices='0,1,2'"], 96, 3, False),
        (["training.trainer.devices=auto"], 32, 1, True),
        (["training.trainer.devices=-1"], 32, 1, True),
        (["training.trainer.accumulate_grad_batches=3"], 96, 1, False),
        (["data_loader.global_batch_size=512"], 512, 1, False),
    ],
)
def test_anchors_per_step(
    overrides: list[str], anchors: int, processes: int, assumed: bool
) -> None:
    result = plan(*overrides)
    assert result.anchors_per_step == anchors
    assert (result.num_processes, result.processes_assumed) == (processes, assumed)


@pytest.mark.parametrize(
    ("overrides", "per_epoch", "total", "third"),
    [
        (["training.trainer.limit_train_batches=10"], 10, 100, 70),
        (["training.trainer.limit_train_batches=0.2"], 11, 110, 77),
        (["training.trainer.max_steps=100"], 59, 100, 70),
        (["training.trainer.max_steps=9999"], 59, 590, 413),
        (["training.trainer.max_epochs=-1", "training.trainer.max_steps=200"], 59, 200, 140),
        (["training.trainer.fast_dev_run=10"], 10, 10, 7),
    ],
)
def test_limits_shorten_the_run_and_move_its_phases(
    overrides: list[str], per_epoch: int, total: int, third: int
) -> None:
    result = plan(*overrides)
    assert (result.steps_per_epoch, result.total_steps) == (per_epoch, total)
    assert result.spans[2].start_step == third
    assert result.spans[2].end_step == total


@pytest.mark.parametrize("seed", [0, 7, 42])
@pytest.mark.parametrize(("val", "test"), [(0.05, 0.1), (0, 0.1), (0.3, 0), (0, 0)])
@pytest.mark.parametrize("sectors", ["[]", "[23,31-33,62]"])
def test_what_is_held_out_is_nearly_what_a_run_holds_out(
    seed: int, val: float, test: float, sectors: str
) -> None:
    splits = [f"data_loader.val_split={val}", f"data_loader.test_split={test}"]
    config = load_config(overrides=[*splits, f"seed={seed}", f"data.sectors={sectors}"]).config
    wanted = {sector_of(sector) for sector in config.data.sectors}
    rows = [row for row in bundled_titles() if not wanted or sector_of(row[0]) in wanted]
    tree = Taxonomy.from_codes(*zip(*rows, strict=True))
    expected = int(split_families(tree, val, test, seed).held().sum())
    result = planned_phases(config)
    assert result.num_codes == len(tree)
    assert result.num_heldout == pytest.approx(expected, abs=0.02 * len(tree))
    assert (result.num_heldout == 0) == (expected == 0)


def test_the_micro_batches_are_worked_out_as_in_a_run() -> None:
    fixed = ["data_loader.global_batch_size=256", "training.trainer.devices=2"]
    assert (plan(*fixed).anchors_per_step, plan(*fixed).micro_batches) == (256, 4)
    limited = plan(*fixed, "training.trainer.limit_train_batches=8")
    assert limited.steps_per_epoch == 8  # a batch is a whole step
    loaded = load_config(overrides=[*GIVEN, *fixed])
    line = "256 anchors a step on 2 processes; 4 micro-batches per process"
    assert line in as_table(loaded, plan(*fixed))
    assert "micro-batches" not in as_table(loaded, plan())
    with pytest.raises(ConfigError, match="global_batch_size=100 cannot"):
        plan("data_loader.global_batch_size=100")


def test_a_run_that_is_cut_short_says_so() -> None:
    loaded = load_config(overrides=[*GIVEN, "training.trainer.max_steps=100"])
    text = as_table(loaded, planned_phases(loaded.config))
    assert "2 epochs of 59 steps = 118 optimizer steps cut to 100 (max_steps)" in text


def test_the_plan_says_where_nothing_is_clustered() -> None:
    for epoch, clusters_off in (("0", False), ("null", True)):
        loaded = load_config(overrides=[f"curriculum.fn_curriculum_start_epoch={epoch}"])
        text = as_table(loaded, planned_phases(loaded.config))
        assert ("false-negative mitigation, clusters off" in text) is clusters_off


def test_a_late_clustering_start_is_warned_of() -> None:
    overrides = ["curriculum.fn_curriculum_start_epoch=99"]
    loaded = load_config(overrides=overrides)
    result = planned_phases(loaded.config)
    assert any("fn_curriculum_start_epoch=99" in warning for warning in result.warnings)
    assert "warning: " in as_table(loaded, result)


def test_the_prepared_table_is_counted_when_it_fits_the_settings(tmp_path: Path) -> None:
    url = str(tmp_path / "data" / "naics_descriptions.parquet")
    (tmp_path / "data").mkdir()
    manifest = Manifest(
        file="naics_descriptions.parquet",
        sha256="0" * 64,
        rows=1500,
        schema_version=1,
        source="census",
        inputs={},
        config_hash="",
        created_at="2026-01-01T00:00:00+00:00",
        extra={"sectors": [], "max_codes": None},
    )
    write_manifest(url, manifest)
    result = planned_phases(load_config(overrides=[f"dirs.data_dir={tmp_path}/data"]).config)
    assert (result.num_codes, result.codes_source) == (1500, f"of {url}")
    write_manifest(url, replace(manifest, extra={"sectors": ["11"], "max_codes": None}))
    result = planned_phases(load_config(overrides=[f"dirs.data_dir={tmp_path}/data"]).config)
    assert result.num_codes == 2125


def test_a_slice_counts_its_own_codes() -> None:
    result = plan("data.sectors=[11]")
    assert result.num_codes == 131
    assert "bundled" in result.codes_source


def test_the_table_is_readable() -> None:
    loaded = load_config(
        profile="smoke", overrides=["seed=7", "data.census_url=file://" + "x" * 99]
    )
    lines = as_table(loaded, planned_phases(loaded.config)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    rows = {line.split()[0]: line.split() for line in lines if line.split()}
    assert rows["seed"] == ["seed", "7", "override"]
    assert rows["max_codes"] == ["max_codes", "60", "profile"]
    assert rows["lora.dropout"] == ["lora.dropout", "0.05", "default"]
    assert any("60 codes" in line for line in lines)
    assert any(line.split()[:3] == ["3", "false-negative", "mitigation"] for line in lines)


def test_yaml_reads_back_and_json_is_whole(tmp_path: Path) -> None:
    loaded = load_config(profile="smoke")
    result = planned_phases(loaded.config)
    text = as_yaml(loaded, result)
    (tmp_path / "again.yaml").write_text(text)
    assert load_config(tmp_path / "again.yaml").hash == loaded.hash
    whole = json.loads(as_json(loaded, result))
    assert whole["config"] == yaml.safe_load(text)
    assert set(whole) == {"config", "provenance", "hash", "sources", "sadc"}
    assert [span["phase"] for span in whole["sadc"]["spans"]] == [1, 2, 3]

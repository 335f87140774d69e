"""What a finished run leaves: metrics beside the frozen baseline, embeddings, the model."""

import logging
from dataclasses import asdict
from datetime import UTC, datetime

from naics_job.config.schema import Config
from naics_job.evaluation.report import EvaluationReport
from naics_job.export.card import ModelCard
from naics_job.export.embeddings import FILE as EMBEDDINGS
from naics_job.export.embeddings import write_embeddings
from naics_job.export.model import write_model
from naics_job.model.embedder import Encoded
from naics_job.observability.logs import event
from naics_job.storage.files import Manifest, join
from naics_job.training.build import Job
from naics_job.training.record import RunRecord
from naics_job.training.scoring import score

log = logging.getLogger(__name__)


def publish(
    config: Config, job: Job, final: tuple[EvaluationReport, Encoded], record: RunRecord
) -> None:
    """Score the final weights, export embeddings and model, and fill in the record.

    Args:
        config: the settings.
        job: the trained module and what it read.
        final: report and embedding of the final weights.
        record: of the run.
    """
    report, encoded = final
    scores, taxonomy = score(job, report, encoded), job.inputs.data.taxonomy
    record.metrics, record.baseline = scores.metrics, scores.baseline
    record.health = dict(scores.health)
    folder = join(config.dirs.output_dir, config.experiment_name)
    manifest = Manifest(
        file=EMBEDDINGS,
        sha256="",
        rows=len(taxonomy),
        schema_version=1,
        source=record.data_source,
        inputs={"descriptions": record.data_digest},
        config_hash=record.config_hash,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        extra={"run_id": record.run_id},
    )
    url, curvature = join(folder, EMBEDDINGS), float(encoded.curvature)
    write_embeddings(url, encoded.points, taxonomy, curvature, manifest)
    card = ModelCard(
        run_id=record.run_id,
        experiment_name=config.experiment_name,
        data_source=record.data_source,
        data_digest=record.data_digest,
        curvature=curvature,
        metrics=record.metrics,
        baseline=record.baseline,
        heldout_trained_before=record.heldout_trained_before,
    )
    settings = {
        "model": asdict(config.model),
        "loss": asdict(config.loss),
        "max_tokens": asdict(config.data_loader.tokenization.max_tokens),
    }
    encoder, embedder, base = job.module.encoder, job.module.embedder, job.inputs.base
    model = write_model(join(folder, "model"), encoder, embedder, base, settings, card)
    record.exports = {"embeddings": url, "model": model}
    event(log, logging.INFO, "run.published", **record.exports)

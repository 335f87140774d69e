"""What a finished run leaves: metrics beside the frozen baseline, embeddings, the model."""

import logging
from datetime import UTC, datetime

from naics_job.config.schema import Config
from naics_job.export.card import ModelCard, card_text
from naics_job.export.embeddings import FILE as EMBEDDINGS
from naics_job.export.model import MODEL
from naics_job.export.write import Places, TrainedModel, write_export
from naics_job.observability.logs import event
from naics_job.storage.files import Manifest, join
from naics_job.training.build import Job
from naics_job.training.documents import leaf_documents
from naics_job.training.final import Final
from naics_job.training.record import RunRecord
from naics_job.training.scoring import score

log = logging.getLogger(__name__)


def publish(config: Config, job: Job, final: Final, record: RunRecord) -> None:
    """Score the final weights, export embeddings and model, and fill in the record.

    Args:
        config: the settings.
        job: the trained module and what it read.
        final: the network as it is published.
        record: of the run.
    """
    encoded = final.codes
    scores, taxonomy = score(job, final), job.inputs.data.taxonomy
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
    curvature = float(encoded.curvature)
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
    base, name = job.inputs.base, config.model.base_model_name
    text = card_text(card, name, base)
    write_export(folder, trained_model(job, name), places_of(job, final), manifest, text)
    record.exports = {"embeddings": join(folder, EMBEDDINGS), "model": join(folder, MODEL)}
    event(log, logging.INFO, "run.published", **record.exports)


def trained_model(job: Job, base_name: str) -> TrainedModel:
    """The network and what it reads texts with."""
    limits = job.inputs.tokens.max_tokens
    return TrainedModel(
        encoder=job.module.encoder,
        embedder=job.module.embedder,
        base=job.inputs.base,
        base_name=base_name,
        max_tokens=limits["description"],
        title_tokens=limits["title"],
    )


def places_of(job: Job, final: Final) -> Places:
    """Where the codes and their texts stand in the end."""
    data = job.inputs.data
    return Places(
        taxonomy=data.taxonomy,
        points=final.codes.points,
        items=final.texts.points,
        item_codes=final.texts.code.tolist(),
        item_texts=final.texts.text,
        documents=leaf_documents(data, job.inputs.labelled),
        curvature=float(final.codes.curvature),
        calibration=final.calibration,
    )

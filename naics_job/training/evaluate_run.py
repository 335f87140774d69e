"""`evaluate`: score the weights of a checkpoint without training, on the data they come from."""

from dataclasses import asdict
from typing import Any

from naics_job.checkpoint.catalogue import checkpoint_root
from naics_job.checkpoint.payload import load_payload
from naics_job.checkpoint.resume import ResumePlan, resolve
from naics_job.config.load import LoadedConfig
from naics_job.data.derive import current_descriptions
from naics_job.errors import CheckpointError
from naics_job.storage.files import cache_folder
from naics_job.training.build import Job, build_job, read_inputs
from naics_job.training.final import finish
from naics_job.training.provenance import require_same_inputs, stored_in, warn_of_trained
from naics_job.training.scoring import Scorecard, score
from naics_job.training.weights import weights_in

OF_THE_RUN = " as in the run; its settings are config-*.yaml beside its checkpoints"


def evaluate_checkpoint(loaded: LoadedConfig, ckpt_path: str) -> Scorecard:
    """Scores of the checkpoint's embedding beside those of the frozen encoder.

    Raises:
        CheckpointError, DataError, ConfigError: see `checkpoint_job`.
    """
    job = checkpoint_job(loaded, ckpt_path)
    return score(job, finish(job))


def checkpoint_job(loaded: LoadedConfig, ckpt_path: str) -> Job:
    """The network of a checkpoint, on the data it comes from.

    The tables are read as they are: building them could replace those the run was trained on.

    Raises:
        CheckpointError: there is no such checkpoint, it is broken or of another architecture.
        DataError: a table is missing, damaged or of other settings.
        ConfigError: the data, the base weights or the held-out codes are not those of the run.
    """
    config = loaded.config
    plan = resolve(
        ckpt_path, checkpoint_root(config), cache_folder(config.dirs.data_dir) / "checkpoints"
    )
    if plan.local_file is None:
        raise CheckpointError(
            f"no checkpoint of {config.experiment_name} to evaluate", "train first, or name a file"
        )
    payload = load_payload(plan.local_file, plan.manifest)
    subject, stored = f"{plan.local_file} cannot be evaluated", _stored_inputs(plan, payload)
    known = {"data_digest": current_descriptions(config).sha256}  # before any text is encoded
    require_same_inputs(subject, stored, known, OF_THE_RUN)
    job = build_job(config, read_inputs(config))  # draws no batch: any batch size will do
    module = job.module
    require_same_inputs(subject, stored, module.provenance.inputs, OF_THE_RUN)
    digest = module.provenance.data_digest
    weights = weights_in(payload, plan.local_file, job.architecture, digest)
    module.load_state_dict(weights, strict=False)  # no score asks the memory
    module.provenance = module.provenance.after(payload)
    warn_of_trained(module.provenance, payload)
    return job


def _stored_inputs(plan: ResumePlan, payload: dict[str, Any]) -> dict[str, Any]:
    """What the run froze at its start, and what the checkpoint says, which a bare file has too."""
    frozen = asdict(plan.run) if plan.run is not None else {}
    return {**frozen, **stored_in(payload)}

"""What a run starts from and writes to: the run store, what was frozen in it, the weights."""

import logging
from dataclasses import asdict, replace

import lightning.pytorch as pl

from naics_job.checkpoint.catalogue import checkpoint_root
from naics_job.checkpoint.manifest import CheckpointFacts, RunManifest, timestamp
from naics_job.checkpoint.payload import load_payload
from naics_job.checkpoint.resume import ResumePlan
from naics_job.checkpoint.store import RunStore
from naics_job.config.load import LoadedConfig, to_yaml
from naics_job.distributed import is_main, world_size
from naics_job.observability.logs import event
from naics_job.storage.files import sha256_of, write_bytes_atomic
from naics_job.training.build import Job
from naics_job.training.callbacks.checkpointing import Describe
from naics_job.training.provenance import (
    DECIDED_BY,
    require_same_inputs,
    stored_in,
    warn_of_trained,
)
from naics_job.training.record import versions
from naics_job.training.weights import weights_in

log = logging.getLogger(__name__)
NEW_RUN = ", or start a new run from the checkpoint's weights: --ckpt-path FILE"


def frozen_facts(plan: ResumePlan) -> RunManifest | None:
    """What the run froze at its first start, with the borders of the checkpoint it resumes.

    A resume with `curriculum.rescale=true` moves the borders for good: later resumes find the new
    ones in the checkpoint, while run.json is never written again.
    """
    if plan.run is None or plan.manifest is None:
        return plan.run
    return replace(plan.run, borders=plan.manifest.borders)


def open_store(loaded: LoadedConfig, plan: ResumePlan, job: Job) -> RunStore:
    """The run store, with run.json written at a first start and compared at a resume.

    The settings are saved beside the checkpoints under their hash, which every manifest names.

    Raises:
        ConfigError: the resumed run had other data, base weights, held-out codes or another global
            batch size.
    """
    config, curriculum = loaded.config, job.module.curriculum
    provenance = job.module.provenance
    store = RunStore(checkpoint_root(config), plan.run_id, config.checkpoint.keep_last)
    current = RunManifest(
        run_id=plan.run_id,
        config_hash=loaded.hash,
        borders=dict(curriculum.borders.to_dict()),
        global_batch_size=job.datamodule.order.global_batch_size,
        total_steps=curriculum.borders.total_steps,
        created_at=timestamp(),
        warm_start=_digest_of(plan) if plan.kind == "warm_start" else "",
        base_model_sha256=provenance.base_model_sha256,
        data_digest=provenance.data_digest,
        heldout_digest=provenance.heldout_digest,
    )
    if plan.kind == "resume":
        _require_same(plan, current)
        if plan.manifest is not None:
            store.mark_resume_source(plan.manifest)
    elif is_main():
        store.start_run(current)
    if is_main():
        name = f"config-{loaded.hash[:12]}.yaml"
        write_bytes_atomic(store.catalogue.url(plan.run_id, name), to_yaml(config).encode())
    return store


def load_weights(plan: ResumePlan, job: Job) -> str | None:
    """Check the checkpoint; a resume is left to Lightning, a warm start takes weights only.

    Raises:
        CheckpointError: the file is damaged, of another architecture, or holds no weights.
        ConfigError: the resumed checkpoint was made of other inputs.
    """
    if plan.local_file is None:
        return None
    payload = load_payload(plan.local_file, plan.manifest)
    module = job.module
    digest = module.provenance.data_digest
    weights = weights_in(payload, plan.local_file, job.architecture, digest)
    if plan.kind == "resume":  # run.json may be gone, or older than the checkpoint
        require_same_inputs(_subject(plan), stored_in(payload), module.provenance.inputs, NEW_RUN)
        return str(plan.local_file)
    module.load_state_dict(weights, strict=False)  # the memory is left empty
    module.provenance = module.provenance.after(payload)
    warn_of_trained(module.provenance, payload)
    return None


def describer(loaded: LoadedConfig, job: Job) -> Describe:
    """What the manifest of a checkpoint says about the state it is taken in."""
    architecture = job.architecture

    def describe(trainer: pl.Trainer) -> CheckpointFacts:
        position = job.datamodule.position
        curriculum = job.module.curriculum
        return CheckpointFacts(
            step=trainer.global_step,
            epoch=position.epoch,
            position=position.position,
            phase=int(curriculum.at(trainer.global_step).phase),
            borders=dict(curriculum.borders.to_dict()),
            config_hash=loaded.hash,
            architecture=architecture,
            world_size=world_size(),
            global_batch_size=job.datamodule.order.global_batch_size,
            versions=versions(),
        )

    return describe


def _subject(plan: ResumePlan) -> str:
    return f"run {plan.run_id} cannot be continued exactly"


def _digest_of(plan: ResumePlan) -> str:
    if plan.manifest is not None:
        return plan.manifest.sha256
    return sha256_of(plan.local_file) if plan.local_file is not None else ""


def _require_same(plan: ResumePlan, current: RunManifest) -> None:
    if plan.run is None:
        return
    now = asdict(current)
    fixed = {name: now[name] for name in DECIDED_BY if name in now}
    require_same_inputs(_subject(plan), asdict(plan.run), fixed, NEW_RUN)
    if plan.manifest is not None and plan.manifest.config_hash != current.config_hash:
        fields = {"then": plan.manifest.config_hash[:12], "now": current.config_hash[:12]}
        event(log, logging.WARNING, "resume.settings_changed", **fields)

"""`evaluate`: score the weights of a checkpoint without training."""

from naics_job.checkpoint.payload import load_payload
from naics_job.checkpoint.resume import resolve
from naics_job.config.load import LoadedConfig
from naics_job.errors import CheckpointError
from naics_job.storage.files import cache_folder, join
from naics_job.training.build import build_inputs, build_job
from naics_job.training.callbacks.evaluation import evaluate_module
from naics_job.training.scoring import Scorecard, score


def evaluate_checkpoint(loaded: LoadedConfig, ckpt_path: str) -> Scorecard:
    """Scores of the checkpoint's embedding beside those of the frozen encoder.

    Raises:
        CheckpointError: there is no such checkpoint, it is broken or of another architecture.
    """
    config = loaded.config
    root = join(config.dirs.checkpoint_dir, config.experiment_name)
    plan = resolve(ckpt_path, root, cache_folder(config.dirs.data_dir) / "checkpoints")
    if plan.local_file is None:
        raise CheckpointError(
            f"no checkpoint of {config.experiment_name} to evaluate", "train first, or name a file"
        )
    inputs = build_inputs(config)
    job = build_job(config, inputs)  # no batch is drawn, so the sizes of the run do not matter
    payload = load_payload(plan.local_file, plan.manifest, job.architecture)
    job.module.load_state_dict(payload["state_dict"])
    return score(job, *evaluate_module(job.module, job.datamodule.heldout))

"""`train-seq`, the historical chain of stages: each starts from the weights of the one before.

Modern runs use the single SADC schedule of `train`; this is kept so that old experiments can be
repeated. A stage is a run of its own with a fresh optimizer, and stays in one phase throughout.
"""

import logging
from dataclasses import replace

from naics_job.checkpoint.catalogue import Catalogue, checkpoint_root
from naics_job.checkpoint.manifest import MANIFEST_SUFFIX, CheckpointManifest, decode
from naics_job.checkpoint.resume import RESUMES
from naics_job.config.load import LoadedConfig, config_hash
from naics_job.config.schema import Config
from naics_job.curriculum.schedule import Phase, stage_name
from naics_job.errors import ConfigError
from naics_job.observability.logs import event
from naics_job.storage.files import read_bytes
from naics_job.training.record import RunRecord
from naics_job.training.run import RunOptions, run_training

log = logging.getLogger(__name__)


def run_sequence(loaded: LoadedConfig, options: RunOptions) -> list[RunRecord]:
    """Train the stages `<experiment_name>-stage1` to `-stage3` and return their records.

    The epochs are shared out as the borders of the curriculum would, at least one for each stage.
    A file as `options.ckpt_path` goes to the first stage; last and auto continue the chain where it
    stopped, see `stage_start`. A stage that stops before its end is the last one.
    """
    records: list[RunRecord] = []
    for phase, epochs in stage_epochs(loaded.config).items():
        stage = replace(loaded, config=stage_config(loaded.config, phase, epochs))
        stage = replace(stage, hash=config_hash(stage.config))
        start = options.ckpt_path
        if records:
            start = stage_start(stage.config, start, records[-1].checkpoint)
        elif start in RESUMES and _newest(stage.config)[0] is not None:
            start = "auto"  # which leaves a finished stage alone
        event(log, logging.INFO, "train_seq.stage", phase=int(phase), epochs=epochs)
        records.append(run_training(stage, replace(options, ckpt_path=start, only_phase=phase)))
        if records[-1].status == "stopped":
            break
    return records


def stage_start(config: Config, ckpt_path: str | None, before: str | None) -> str | None:
    """What `--ckpt-path` a later stage gets: its own newest run, or the weights of the one before.

    A chain is continued by a run of the stage that started from exactly those weights; runs of an
    earlier chain are left alone.

    Args:
        config: settings of the stage.
        ckpt_path: of the command.
        before: checkpoint with the final weights of the stage before.

    Raises:
        CheckpointError: a manifest or run.json is damaged.
    """
    if ckpt_path not in RESUMES or before is None:
        return before
    newest, skipped = _newest(config)
    if newest is None:
        return "auto" if skipped else before  # auto refuses to start beside broken ones
    run = _catalogue(config).read_run(newest.run_id)
    url = before + MANIFEST_SUFFIX
    source = decode(CheckpointManifest, read_bytes(url), url).sha256
    return "auto" if run is not None and run.warm_start == source else before


def _newest(config: Config) -> tuple[CheckpointManifest | None, list[str]]:
    return _catalogue(config).newest_verified()


def _catalogue(config: Config) -> Catalogue:
    return Catalogue(checkpoint_root(config))


def stage_epochs(config: Config) -> dict[Phase, int]:
    """Epochs of each stage, from the borders of the curriculum; phases without width drop out.

    Raises:
        ConfigError: the length of the run is set in steps.
    """
    ends = config.curriculum
    widths = {
        Phase.STRUCTURAL: ends.phase1_end,
        Phase.GEOMETRIC: ends.phase2_end - ends.phase1_end,
        Phase.MITIGATION: ends.phase3_end - ends.phase2_end,
    }
    if ends.phase_mode == "two_phase":
        widths[Phase.GEOMETRIC] = 1 - ends.phase1_end
        widths[Phase.MITIGATION] = 0.0
    epochs = config.training.max_epochs
    if config.training.max_steps != -1:
        raise ConfigError(
            f"training.trainer.max_steps={config.training.max_steps} would end every stage early: "
            "train-seq shares out epochs",
            "leave max_steps out and set training.trainer.max_epochs",
        )
    return {phase: max(1, round(width * epochs)) for phase, width in widths.items() if width > 0}


def stage_config(config: Config, phase: Phase, epochs: int) -> Config:
    """The settings of one stage: its own name and length; clusters, if any, from the start."""
    name = stage_name(config.experiment_name, phase)
    trainer = {**config.training.trainer, "max_epochs": epochs}
    curriculum = config.curriculum
    if curriculum.clusters:
        curriculum = replace(curriculum, fn_curriculum_start_epoch=0)
    return replace(
        config,
        experiment_name=name,
        training=replace(config.training, trainer=trainer),
        curriculum=curriculum,
    )

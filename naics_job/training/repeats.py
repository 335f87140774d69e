"""The same training on several splits: how much a figure depends on which families are held out."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from naics_job.config.schema import Config
from naics_job.observability.logs import event
from naics_job.training.build import Inputs, Job, build_inputs, build_job
from naics_job.training.callbacks.curriculum import CurriculumCallback
from naics_job.training.final import Final, finish
from naics_job.training.scoring import Scorecard, score
from naics_job.training.trainer import make_trainer

log = logging.getLogger(__name__)


@contextmanager
def trained(config: Config, inputs: Inputs) -> Iterator[tuple[Job, Final]]:
    """Train with nothing written: no checkpoints, logs, metrics or exports.

    The adapter, which belongs to `inputs`, is what it was before once the context is left, so
    measure within it: texts are encoded by the trained adapter only as long.

    Args:
        config: the settings; its seed decides splits, start and order.
        inputs: left as they are, so that another training can start from them.
    """
    start = {name: value.clone() for name, value in inputs.encoder.state_dict().items()}
    job = build_job(config, inputs)
    trainer = make_trainer(config, logger=False, callbacks=[CurriculumCallback()])
    trainer.fit(job.module, datamodule=job.datamodule)
    try:
        yield job, finish(job)
    finally:
        inputs.encoder.load_state_dict(start)


def score_splits(config: Config, count: int) -> list[Scorecard]:
    """Train on `count` splits, those of the seeds from `seed` on, and score each.

    Raises:
        DataError, ConfigError: see `build_inputs` and `build_job`.
    """
    inputs, cards = build_inputs(config), []
    for seed in range(config.seed, config.seed + count):
        with trained(replace(config, seed=seed), inputs) as (job, final):
            cards.append(score(job, final))
        held = cards[-1].metrics["heldout"]
        event(log, logging.INFO, "split.scored", seed=seed, codes=len(job.datamodule.splits.test),
              ndcg=round(held.get("ndcg@10", float("nan")), 3))  # fmt: skip
    return cards

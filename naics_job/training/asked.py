"""How many texts a step asks, and their random numbers."""

from naics_job.config.schema import Config
from naics_job.data.sampler import AnchorBatch, RowDraws


def texts_per_anchor(config: Config) -> int:
    """Texts that a step asks for each of its anchors; 0 where no loss term reads them."""
    loss = config.loss
    asked = loss.contrastive_weight > 0 or loss.distillation_weight > 0
    return config.data_loader.queries.per_anchor if asked else 0


def query_draws(config: Config, batch: AnchorBatch) -> RowDraws:
    """The random numbers of the texts of a step."""
    count = len(batch.anchors) * texts_per_anchor(config)
    return RowDraws(config.seed, batch.epoch, batch.index, 0, count)

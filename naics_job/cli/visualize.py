"""`tools visualize`: PNG files of the experiment's last run."""

import logging
from collections.abc import Iterator
from typing import Any

from naics_job.cli.plot_curves import loss_figure, metric_figure
from naics_job.cli.plot_embedding import disk_figure, radius_figure
from naics_job.cli.plot_style import plot_style, save_png
from naics_job.config.schema import Config
from naics_job.errors import DataError
from naics_job.export.embeddings import FILE as EMBEDDINGS
from naics_job.export.embeddings import EmbeddingTable, read_embeddings
from naics_job.observability.logs import event
from naics_job.storage.files import exists, join
from naics_job.taxonomy.tree import Taxonomy
from naics_job.training.past_run import TRAIN_FIRST, open_past_run

log = logging.getLogger(__name__)


def write_plots(config: Config) -> Iterator[str]:
    """Draw losses, metrics, radii and the disk below `<dirs.docs_dir>/<experiment_name>`.

    A run under way, or one whose export is gone, gives the plots that its files allow; what is
    left out is logged.

    Yields:
        The path or URL of each plot once it is written.

    Raises:
        DataError: the experiment has neither logs nor embeddings, or they are damaged.
        ConfigError: matplotlib is not installed.
    """
    folder = join(config.dirs.docs_dir, config.experiment_name)
    with plot_style():
        for name, figure in _figures(config):
            yield save_png(figure, join(folder, f"{name}.png"))


def embeddings_url(config: Config) -> str:
    """Where the embeddings of the experiment's last finished run are."""
    return join(config.dirs.output_dir, config.experiment_name, EMBEDDINGS)


def table_with_taxonomy(url: str) -> tuple[EmbeddingTable, Taxonomy]:
    """The embeddings and the taxonomy of their codes, in the same order.

    Raises:
        DataError: there are none, or their rows are not in the order of a taxonomy.
    """
    if not exists(url):
        raise DataError(f"there are no embeddings at {url}", TRAIN_FIRST)
    table = read_embeddings(url)
    taxonomy = Taxonomy.from_codes(table.codes, table.titles)
    if list(taxonomy.codes) != table.codes:
        raise DataError(f"the rows of {url} are not in taxonomy order", TRAIN_FIRST)
    return table, taxonomy


def _figures(config: Config) -> Iterator[tuple[str, Any]]:
    url, problem = embeddings_url(config), None
    try:
        run = open_past_run(config)
    except DataError as error:
        if not exists(url):
            raise
        problem = str(error.args[0])
    else:
        for name, figure in (("losses", loss_figure(run)), ("metrics", metric_figure(run))):
            if figure is None:
                event(log, logging.WARNING, "plot.skipped", plot=name, reason="nothing was logged")
            else:
                yield name, figure
    if problem is not None:
        event(log, logging.WARNING, "plot.skipped", plot="losses and metrics", reason=problem)
    if not exists(url):
        reason = f"no embeddings at {url}; a run writes them when it ends"
        event(log, logging.WARNING, "plot.skipped", plot="radius and disk", reason=reason)
        return
    table, taxonomy = table_with_taxonomy(url)
    yield "radius_by_level", radius_figure(table)
    yield "poincare_disk", disk_figure(table, taxonomy)

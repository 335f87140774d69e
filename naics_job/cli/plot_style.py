"""How plots look: fonts, colours that colour-blind readers can tell apart, and saving."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from naics_job.errors import ConfigError
from naics_job.storage.files import write_bytes_atomic

DPI = 150
TRAINED, HELDOUT, MUTED = "#0072B2", "#D55E00", "#666666"
# Okabe and Ito 2008, without black and with a darker yellow that is seen on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#A38F00")
MARKERS = ("o", "s", "^")  # with 7 colours enough for 21 groups
PHASE_TINTS = {1: "#EAF3FA", 2: "#FFF4DF", 3: "#E8F5F0"}
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def plot_style() -> Iterator[None]:
    """Draw in our style, without changing that of the process.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ConfigError(
            "plots need matplotlib, which is not installed", "pip install 'naics-job[plots]'"
        ) from error
    with matplotlib.rc_context(STYLE):
        yield


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure of a size in inches, drawn without a display."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_png(figure: Any, url: str) -> str:
    """Write `figure` to `url` and return `url`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    write_bytes_atomic(url, buffer.getvalue())
    return url

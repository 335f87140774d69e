"""The plots of a run, whole or in part."""

import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from naics_job.cli.plot_curves import loss_figure, metric_figure
from naics_job.cli.plot_embedding import _look, spread
from naics_job.cli.plot_style import plot_style
from naics_job.cli.visualize import write_plots
from naics_job.config.schema import Config
from naics_job.errors import ConfigError, DataError
from naics_job.training.past_run import open_past_run

Write = Callable[..., None]


def size_of(png: Path) -> tuple[int, int]:
    """Width and height from the header; fails on anything that is not a PNG file."""
    content = png.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_four_plots(past_config: Config, write_logs: Write, write_points: Write) -> None:
    write_logs()
    write_points()
    written = [Path(url) for url in write_plots(past_config)]
    assert [file.stem for file in written] == [
        "losses",
        "metrics",
        "radius_by_level",
        "poincare_disk",
    ]
    assert {file.parent for file in written} == {Path(past_config.dirs.docs_dir) / "past"}
    assert all(min(size_of(file)) > 500 for file in written)


def test_a_run_under_way_has_curves_only(
    past_config: Config, write_logs: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write_logs()
    assert [Path(url).stem for url in write_plots(past_config)] == ["losses", "metrics"]
    assert "plot.skipped" in caplog.text


def test_an_embedding_whose_log_is_gone(past_config: Config, write_points: Write) -> None:
    write_points()
    drawn = [Path(url).stem for url in write_plots(past_config)]
    assert drawn == ["radius_by_level", "poincare_disk"]


def test_nothing_there(past_config: Config) -> None:
    with pytest.raises(DataError, match="no run has logged") as caught:
        list(write_plots(past_config))
    assert "train first" in caught.value.hint


def test_without_matplotlib(past_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="matplotlib") as caught:
        list(write_plots(past_config))
    assert caught.value.hint == "pip install 'naics-job[plots]'"


def test_what_the_panels_show(past_config: Config, write_logs: Write) -> None:
    write_logs()
    run = open_past_run(past_config)
    with plot_style():
        losses, metrics = loss_figure(run), metric_figure(run)
    assert losses is not None
    assert metrics is not None
    shown = [axis for axis in losses.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in shown] == ["total (weighted sum)", "contrastive"]
    assert len(shown[0].patches) == 3  # one band per phase
    assert [patch.get_x() for patch in shown[0].patches][1:] == [20, 40]
    first = metrics.axes[0]
    dashed = [line for line in first.lines if line.get_linestyle() == "--"]
    assert [line.get_ydata()[0] for line in dashed] == [0.3]
    solid = [line for line in first.lines if line.get_linestyle() == "-"]
    assert [line.get_xdata().tolist() for line in solid] == [[30, 60], [30, 60]]


def test_twenty_sectors_look_different_and_neighbours_differ_in_colour() -> None:
    looks = [_look(number) for number in range(20)]
    assert len(set(looks)) == 20
    assert all(a[0] != b[0] for a, b in zip(looks, looks[1:] + looks[:1], strict=True))


def test_labels_are_spread() -> None:
    angles = np.array([-3.0, -1.0, -0.99, -0.98, 2.0])
    moved = spread(angles, 0.1)
    gaps = np.diff(np.append(moved, moved[0] + 2 * np.pi))
    assert gaps.min() >= 0.1 - 1e-3
    assert moved[[0, 4]] == pytest.approx(angles[[0, 4]])
    assert moved[2] == pytest.approx(-0.99, abs=1e-3)
    crowded = spread(np.full(9, 1.0) + np.arange(9) * 1e-6, 2.0)
    assert np.ptp(crowded) < 2 * np.pi

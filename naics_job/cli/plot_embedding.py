"""Plots of an embedding: radius by level, and the taxonomy in the Poincare disk."""

from typing import Any

import numpy as np
import torch

from naics_job.cli.plot_style import MARKERS, MUTED, PALETTE, TRAINED, new_figure
from naics_job.evaluation.disk import DiskLayout, disk_layout, disk_radius, edge_arcs
from naics_job.evaluation.distances import FloatArray
from naics_job.export.embeddings import EmbeddingTable
from naics_job.geometry.lorentz import radius
from naics_job.taxonomy.codes import sector_of
from naics_job.taxonomy.tree import IntArray, Taxonomy

LEVEL_NAMES = {2: "sector", 3: "subsector", 4: "group", 5: "industry", 6: "national industry"}
SIZES = {2: 110.0, 3: 45.0, 4: 22.0, 5: 9.0, 6: 5.0}  # of a mark, in square points, by level
FULL_SIZE = 2000  # codes for which SIZES are meant
TITLE_LENGTH = 44
LABEL_GAP = 0.09  # radians between the names of sectors
SPREAD_ROUNDS = 500
RINGS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0)  # distances from the origin


def radius_figure(table: EmbeddingTable) -> Any:
    """Distance from the origin of the codes of each level: violin, box and mean."""
    lengths = radius(torch.from_numpy(table.points.copy()), table.curvature).numpy()
    levels = sorted(set(table.levels.tolist()))
    groups = [lengths[table.levels == level] for level in levels]
    figure = new_figure(9, 5.5)
    axis = figure.subplots()
    parts = axis.violinplot(groups, positions=levels, widths=0.85, showextrema=False)
    for body in parts["bodies"]:
        body.set(facecolor=TRAINED, alpha=0.25, edgecolor="none")
    style: dict[str, Any] = {"color": TRAINED, "linewidth": 1.2}
    lines = {f"{name}props": style for name in ("box", "whisker", "cap")}
    lines["medianprops"] = {**style, "linewidth": 2.4}
    lines["flierprops"] = {"marker": ".", "markersize": 3, "markeredgecolor": MUTED}
    axis.boxplot(groups, positions=levels, widths=0.22, manage_ticks=False, **lines)
    means = [float(group.mean()) for group in groups]
    axis.plot(levels, means, color=MUTED, linestyle=":", marker="D", markersize=5, label="mean")
    names = [LEVEL_NAMES.get(level, "") for level in levels]
    ticks = zip(levels, names, groups, strict=True)
    axis.set_xticks(
        levels, [f"{level} digits\n{name}\n{len(g):,} codes" for level, name, g in ticks]
    )
    axis.set(ylabel="distance from the origin", ylim=(0, None))
    axis.set_title("Radius by level: it should grow with the digits of the code")
    axis.legend(loc="lower right")
    axis.text(0.01, 0.97, f"run {table.run_id}", transform=axis.transAxes, color=MUTED, va="top")
    return figure


def disk_figure(table: EmbeddingTable, taxonomy: Taxonomy) -> Any:
    """The taxonomy in the Poincare disk; what places mean is in `evaluation.disk.disk_layout`.

    Args:
        table: the embedding, its rows in the order of `taxonomy`.
        taxonomy: gives colours (sectors), sizes (levels) and edges.
    """
    layout = disk_layout(torch.from_numpy(table.points.copy()), taxonomy, table.curvature)
    figure = new_figure(14, 10)
    axis = figure.subplots()
    axis.set(aspect="equal", xlim=(-1.09, 1.09), ylim=(-1.09, 1.09))
    axis.axis("off")
    _draw_rings(axis, layout)
    sector = np.array([sector_of(code) for code in taxonomy.codes])
    angles = _sector_angles(layout, taxonomy)
    looks = {name: _look(number) for number, name in enumerate(angles)}
    _draw_edges(axis, layout, taxonomy, [looks[name][0] for name in sector])
    handles = [
        _draw_sector(axis, layout, taxonomy, np.flatnonzero(sector == name), looks[name])
        for name in angles
    ]
    places = spread(np.array(list(angles.values())), LABEL_GAP)
    for name, angle in zip(angles, places.tolist(), strict=True):
        label = {"size": 9, "weight": "bold", "color": looks[name][0]}
        at = (1.05 * np.cos(angle), 1.05 * np.sin(angle))
        axis.text(*at, name, ha="center", va="center", **label)
    axis.set_title(f"NAICS in the Poincare disk, run {table.run_id}", size=15)
    axis.text(-1.09, -1.08, _explanation(), size=8.5, color=MUTED, va="top")
    figure.legend(
        handles=sorted(handles, key=lambda handle: str(handle.get_label())),
        loc="outside right center",
        title="Sectors",
        alignment="left",
        fontsize=9,
    )
    return figure


def _explanation() -> str:
    return (
        "Distance from the centre: distance from the origin of the embedding (rings). Angle: order "
        "of the six-digit codes by similarity in the embedding.\nLines: parent and child as "
        "geodesics; a line across the disk is a code embedded far from its parent. Size: level."
    )


def _look(number: int) -> tuple[str, str]:
    """Colour and marker; neighbours on the circle never share a colour."""
    return PALETTE[number % len(PALETTE)], MARKERS[number // len(PALETTE) % len(MARKERS)]


def _sector_angles(layout: DiskLayout, taxonomy: Taxonomy) -> dict[str, float]:
    """Middle of each sector's six-digit codes around the circle, by the angle."""
    found = {}
    for top in np.flatnonzero(taxonomy.depth == 1):
        inside = np.arange(top, taxonomy.subtree_end[top])
        deepest = inside[taxonomy.depth[inside] == taxonomy.depth[inside].max()]
        found[taxonomy.codes[top]] = float(np.angle(np.exp(1j * layout.angle[deepest]).sum()))
    return dict(sorted(found.items(), key=lambda item: item[1]))


def spread(angles: FloatArray, gap: float) -> FloatArray:
    """`angles` `[n]`, ascending within one turn, moved as little as needed to stand `gap` apart."""
    gap = min(gap, 2 * np.pi / max(1, len(angles)))
    moved: FloatArray = angles.astype(np.float64)
    for _ in range(SPREAD_ROUNDS):
        following = np.roll(moved, -1)
        following[-1] += 2 * np.pi
        lack = np.maximum(0, gap - (following - moved)) / 2
        if lack.max() < 1e-6:
            break
        moved = moved - lack + np.roll(lack, 1)
    return moved


def _draw_rings(axis: Any, layout: DiskLayout) -> None:
    from matplotlib.patches import Circle

    axis.add_patch(Circle((0, 0), 1, facecolor="#FAFAFA", edgecolor="#999999", linewidth=1.2))
    outermost = float(layout.radius.max())
    for length in RINGS:
        if length < outermost:
            at = disk_radius(layout.scale * length)
            ring = {"fill": False, "edgecolor": "#CCCCCC", "linestyle": ":", "linewidth": 0.8}
            axis.add_patch(Circle((0, 0), at, **ring))
            axis.text(0, at, f"{length:g}", size=7.5, color=MUTED, ha="center", va="bottom")


def _draw_edges(axis: Any, layout: DiskLayout, taxonomy: Taxonomy, colors: list[str]) -> None:
    from matplotlib.collections import LineCollection

    arcs, child = edge_arcs(layout, taxonomy)
    widths = 1.5 - 0.2 * taxonomy.depth[child].astype(float)
    edge_colors = [colors[position] for position in child.tolist()]
    axis.add_collection(
        LineCollection(list(arcs), colors=edge_colors, linewidths=widths, alpha=0.4, zorder=2)
    )


def _draw_sector(
    axis: Any, layout: DiskLayout, taxonomy: Taxonomy, rows: IntArray, look: tuple[str, str]
) -> Any:
    """Draw one sector's codes; returns the legend entry."""
    color, marker = look
    larger = max(1.0, FULL_SIZE / len(taxonomy)) ** 0.5  # where there is more room for each
    sizes = [larger * SIZES.get(int(level), 5.0) for level in taxonomy.level[rows]]
    outline = {"edgecolor": "white", "linewidth": 0.4, "zorder": 3}
    axis.scatter(*layout.xy[rows].T, s=sizes, c=color, marker=marker, **outline)
    top = int(rows[0])
    title = taxonomy.titles[top]
    short = title if len(title) <= TITLE_LENGTH else title[: TITLE_LENGTH - 3].rstrip() + "..."
    name = f"{taxonomy.codes[top]}  {short}"
    return axis.scatter([], [], s=45, c=color, marker=marker, label=name)

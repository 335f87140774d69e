"""The output of `tools config`: settings with their origin, and where the SADC phases lie."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from naics_job.cli.borders import Plan
from naics_job.config.load import LoadedConfig, to_plain, to_yaml

WIDTH = 100
KEY_WIDTH = 40
ORIGIN_WIDTH = 8
VALUE_WIDTH = WIDTH - KEY_WIDTH - ORIGIN_WIDTH - 4


def as_table(loaded: LoadedConfig, plan: Plan) -> str:
    """Return settings by section with their origin, then the phases, in 100 columns."""
    lines = [_row("setting", "value", "from")]
    for section, value in to_plain(loaded.config).items():
        if not isinstance(value, Mapping):
            lines.append(_row(section, _shown(value), loaded.provenance[section]))
            continue
        lines += ["", section]
        for name, leaf in _leaves(value):
            origin = loaded.provenance[f"{section}.{name}"]
            lines.append(_row(f"  {name}", _shown(leaf), origin))
    lines += ["", *phase_lines(plan), "", f"read from: {', '.join(loaded.sources)}"]
    return "\n".join([*lines, f"config hash: {loaded.hash}"])


def as_yaml(loaded: LoadedConfig, plan: Plan) -> str:
    """Return settings that `--config` reads back; what else there is to know is in comments."""
    changed = {key: place for key, place in loaded.provenance.items() if place != "default"}
    notes = [f"config hash: {loaded.hash}", f"read from: {', '.join(loaded.sources)}"]
    notes += [f"{key} is from: {place}" for key, place in sorted(changed.items())]
    notes += phase_lines(plan)
    return "\n".join([f"# {note}".rstrip() for note in notes]) + "\n\n" + to_yaml(loaded.config)


def as_json(loaded: LoadedConfig, plan: Plan) -> str:
    """Return one object: config, provenance, hash, sources and sadc."""
    whole = {
        "config": to_plain(loaded.config),
        "provenance": loaded.provenance,
        "hash": loaded.hash,
        "sources": loaded.sources,
        "sadc": asdict(plan),
    }
    return json.dumps(whole, indent=2)


FORMATS = {"table": as_table, "yaml": as_yaml, "json": as_json}


def phase_lines(plan: Plan) -> list[str]:
    """Describe the phases by fraction, epoch and step, and what had to be assumed."""
    processes = f"{plan.num_processes} process{'es' if plan.num_processes > 1 else ''}"
    several = plan.micro_batches > 1
    parts = f"; {plan.micro_batches} micro-batches per process" if several else ""
    assumed = " (assumed: devices are counted at the start)" if plan.processes_assumed else ""
    whole = plan.max_epochs * plan.steps_per_epoch
    cut = "" if plan.total_steps == whole else f" cut to {plan.total_steps} (max_steps)"
    lines = [
        f"SADC curriculum: {plan.max_epochs} epochs of {plan.steps_per_epoch} steps = "
        f"{whole} optimizer steps{cut}",
        f"  assumes the {plan.num_codes} codes {plan.codes_source}, about {plan.num_heldout} "
        "held out,",
        f"  {plan.anchors_per_step} anchors a step on {processes}{assumed}{parts}",
        f"  {'phase':<44}{'fraction':>14}{'epochs':>16}{'steps':>16}",
    ]
    for span in plan.spans:
        fraction = f"{span.start:.2f} - {span.end:.2f}"
        epochs = f"{span.start_epoch:.1f} - {span.end_epoch:.1f}"
        empty = span.start_step == span.end_step
        steps = "none" if empty else f"{span.start_step} - {span.end_step - 1}"
        name = f"{span.phase} {span.title}"
        lines.append(f"  {name:<44}{fraction:>14}{epochs:>16}{steps:>16}")
    return lines + [f"  warning: {warning}" for warning in plan.warnings]


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) <= VALUE_WIDTH:
        return text
    return text[: VALUE_WIDTH // 2 - 2] + "..." + text[-(VALUE_WIDTH // 2 - 2) :]


def _row(name: str, value: str, origin: str) -> str:
    return f"{name:<{KEY_WIDTH}}  {value:<{VALUE_WIDTH}}  {origin}"

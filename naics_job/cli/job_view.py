"""What the `job` commands print: a run and its pods, as text and as JSON."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from naics_job.kube.pods import PodView, Problem
from naics_job.kube.state import FAILED, RunState, code_of, explained, outcome_code


def as_json(state: RunState, problems: Sequence[tuple[str, Problem]]) -> dict[str, Any]:
    """A run for programs; keys are stable."""
    meta, status = state.job["metadata"], state.job.get("status") or {}
    return {
        "name": state.name,
        "namespace": meta.get("namespace"),
        "kind": state.kind.name,
        "api_version": state.kind.api_version,
        "uid": meta["uid"],
        "phase": state.phase,
        "reason": state.reason,
        "message": state.message,
        "exit_code": outcome_code(state) if state.ended else None,
        "cancelled": state.cancelled or None,
        "created": meta.get("creationTimestamp"),
        "started": status.get("startTime"),
        "completed": status.get("completionTime"),
        "num_ranks": state.num_ranks,
        "progress": dict(state.progress),
        "pods": [_pod_json(pod) for pod in state.pods],
        "problems": [{"object": name, **vars(problem)} for name, problem in problems],
    }


def as_text(state: RunState, problems: Sequence[tuple[str, Problem]]) -> str:
    """A run for people: one line about it, a table of its pods, what is wrong and what helps."""
    running = sum(pod.phase == "Running" and pod.exit_code is None for pod in state.pods)
    head = f"{state.kind.name} {state.name}: {state.phase}, {running}/{state.num_ranks} pods run"
    lines = [head + _ended(state) + _progress(state.progress)]
    if state.pods:
        lines.append(_row("rank", "pod", "phase", "restarts", "code", "last code", "node"))
    for pod in state.pods:
        codes = (_shown(code_of(pod)), _shown(pod.last_exit_code))
        rank, node = _shown(pod.rank), _shown(pod.node)
        lines.append(_row(rank, pod.name, pod.phase, str(pod.restarts), *codes, node))
        words = pod.outcome.get("error") or pod.outcome.get("message")
        if words and code_of(pod):
            lines.append(f"      {' '.join(str(words).split())}")
    for name, problem in problems:
        lines.append(f"{name}: {problem.reason}: {' '.join(problem.message.split())}")
        if problem.fix:
            lines.append(f"  fix: {problem.fix}")
    return "\n".join(lines)


def list_json(state: RunState) -> dict[str, Any]:
    """A run as an element of a list."""
    keys = ("name", "namespace", "kind", "phase", "created", "exit_code", "progress", "uid")
    found = as_json(state, [])
    return {key: found[key] for key in keys}


def list_text(states: Sequence[RunState], now: datetime) -> str:
    """Runs, one a line."""
    rows = [f"{'kind':<11} {'phase':<10} {'age':>6}  {'name':<52} progress"]
    for state in states:
        age = age_of(state.job["metadata"]["creationTimestamp"], now)
        row = f"{state.kind.name:<11} {state.phase:<10} {age:>6}  {state.name:<52}"
        rows.append((row + _progress(state.progress).replace(", ", " ", 1)).rstrip())
    return "\n".join(rows)


def age_of(created: str, now: datetime) -> str:
    """How long ago, in the largest unit that fits: 42s, 7m, 3h, 5d."""
    seconds = int((now - datetime.fromisoformat(created).astimezone(UTC)).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"


def _pod_json(pod: PodView) -> dict[str, Any]:
    found = vars(pod) | {"exit_code": code_of(pod), "outcome": dict(pod.outcome)}
    found["problem"] = None if pod.problem is None else vars(pod.problem)
    return found


def _ended(state: RunState) -> str:
    if state.phase == FAILED:
        code = outcome_code(state)
        return f" with code {code} ({explained(state, code)})"
    return f", cancelled {state.cancelled}" if state.cancelled else ""


def _progress(progress: Mapping[str, Any]) -> str:
    known = {key: value for key, value in progress.items() if value is not None}
    return "".join(f", {key} {value}" for key, value in known.items())


def _row(*cells: str) -> str:
    widths = (4, 46, 11, 8, 4, 9, 0)
    text = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    return text.rstrip()


def _shown(value: object) -> str:
    return "-" if value is None else str(value)

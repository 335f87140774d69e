"""The result of a campaign: counts by name, the goals they must meet, a table, a JSON file."""

import json
import platform
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar


@dataclass
class Counts:
    """What a campaign counted. A goal is a count and what it must be."""

    campaign: str
    how: str = ""  # how runs were started
    values: Counter[str] = field(default_factory=Counter)
    goals: dict[str, int] = field(default_factory=dict)  # count -> the value it must have
    limits: dict[str, float] = field(default_factory=dict)  # count -> the value not to exceed
    rows: list[dict[str, Any]] = field(default_factory=list)  # one per trial
    failures: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    newest: ClassVar["Counts | None"] = None  # for a campaign that is broken off

    def __post_init__(self) -> None:
        Counts.newest = self

    def add(self, name: str, amount: float = 1) -> None:
        """Count `amount` more of `name`; an amount of 0 makes the name appear."""
        self.values[name] += amount  # type: ignore[assignment]

    def at_least(self, name: str, value: float) -> None:
        """Keep the greatest `value` seen of `name`."""
        self.values[name] = max(self.values[name], value)  # type: ignore[type-var]

    def fail(self, text: str) -> None:
        """Note what went wrong; the campaign goes on, and has failed."""
        self.failures.append(text)

    def missed(self) -> list[str]:
        """Why the campaign has failed; empty when every goal is met."""
        wrong = [
            f"{name} is {self.values[name]}, must be {value}"
            for name, value in self.goals.items()
            if self.values[name] != value
        ]
        wrong += [
            f"{name} is {self.values[name]}, must not exceed {value}"
            for name, value in self.limits.items()
            if self.values[name] > value
        ]
        return wrong + self.failures

    def table(self) -> str:
        """Counts beside their goals, one per line."""
        lines = [f"campaign {self.campaign}" + (f" ({self.how})" if self.how else "")]
        width = max((len(name) for name in self.values), default=0)
        for name, value in self.values.items():
            goal = ""
            if name in self.goals:
                goal = f"  goal {self.goals[name]}"
            elif name in self.limits:
                goal = f"  at most {self.limits[name]}"
            lines.append(f"  {name:<{width}}  {_shown(value):>9}{goal}")
        lines += [f"  failed: {text}" for text in self.missed()]
        return "\n".join(lines)

    def show(self) -> None:
        """Print the table."""
        print(self.table(), flush=True)

    def write(self, folder: Path) -> Path:
        """Write `<campaign>.json` with all of it."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.campaign}.json"
        content = {
            "campaign": self.campaign,
            "how": self.how,
            "python": platform.python_version(),
            "seconds": round(time.monotonic() - self.started, 1),
            "counts": dict(self.values),
            "goals": self.goals,
            "limits": self.limits,
            "missed": self.missed(),
            "trials": self.rows,
        }
        path.write_text(json.dumps(content, indent=2) + "\n")
        return path


def _shown(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"

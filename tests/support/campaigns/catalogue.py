"""The campaigns by name, and how many trials the long form of each takes."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from campaigns.counts import Counts
from campaigns.exact import exact, processes_change
from campaigns.outage import outage
from campaigns.retention import retention
from campaigns.save_time import save_time
from campaigns.sigkill import sigkill
from campaigns.sigterm import sigterm
from campaigns.stage import Stage, staged
from campaigns.store_requests import requests


@dataclass(frozen=True)
class Options:
    """How a campaign is run. `count` None: the long form."""

    count: int | None = None
    seed: int = 0
    real: bool = False
    pods: tuple[int, ...] = ()
    keep: Path | None = None  # folder in which everything stays that the runs wrote


def _staged(options: Options, s3: bool) -> AbstractContextManager[Stage]:
    return staged(s3=s3, seed=options.seed, real=options.real, keep=options.keep)


def _sigkill(options: Options) -> Counts:
    with _staged(options, s3=True) as stage:
        return sigkill(stage, options.count or 200)


def _retention(options: Options) -> Counts:
    return retention(options.count or 10_000, options.seed)


def _sigterm(options: Options) -> Counts:
    with _staged(options, s3=True) as stage:
        return sigterm(stage, options.count or 100, options.pods)


def _exact(options: Options) -> Counts:
    with _staged(options, s3=False) as stage:
        return exact(stage, options.count or 8)


def _processes(options: Options) -> Counts:
    with _staged(options, s3=False) as stage:
        return processes_change(stage, (4, 2, 1), (6, 15))


def _requests(options: Options) -> Counts:
    with _staged(options, s3=True) as stage:
        return requests(stage)


def _outage(options: Options) -> Counts:
    with _staged(options, s3=True) as stage:
        return outage(stage, float(options.count or 120))


def _save_time(options: Options) -> Counts:
    with _staged(options, s3=True) as stage:
        return save_time(stage, options.count or 10)


CAMPAIGNS: dict[str, Callable[[Options], Counts]] = {
    "sigterm": _sigterm,
    "sigkill": _sigkill,
    "exact": _exact,
    "processes": _processes,
    "requests": _requests,
    "outage": _outage,
    "retention": _retention,
    "save_time": _save_time,
}


def perform(name: str, options: Options) -> Counts:
    """Run the campaign `name`."""
    return CAMPAIGNS[name](options)

"""The campaigns by name, and how many trials the long form of each takes."""

from collections.abc import Callable
from dataclasses import dataclass

from campaigns.counts import Counts
from campaigns.retention import retention
from campaigns.sigkill import sigkill
from campaigns.stage import staged


@dataclass(frozen=True)
class Options:
    """How a campaign is run. `count` None: the long form."""

    count: int | None = None
    seed: int = 0
    real: bool = False
    pods: tuple[int, ...] = ()


def _sigkill(options: Options) -> Counts:
    with staged(s3=True, seed=options.seed, real=options.real) as stage:
        return sigkill(stage, options.count or 200)


def _retention(options: Options) -> Counts:
    return retention(options.count or 10_000, options.seed)


CAMPAIGNS: dict[str, Callable[[Options], Counts]] = {
    "sigkill": _sigkill,
    "retention": _retention,
}


def perform(name: str, options: Options) -> Counts:
    """Run the campaign `name`."""
    return CAMPAIGNS[name](options)

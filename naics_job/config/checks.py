"""The one way a setting is refused."""

import math
from collections.abc import Collection

from naics_job.errors import ConfigError


def require(ok: bool, key: str, value: object, expected: str, hint: str = "") -> None:
    """Raise a `ConfigError` naming `key`, `value` and what was expected unless `ok`.

    Without a `hint`, loading adds where the value was set.
    """
    if not ok:
        raise ConfigError(f"{key}={value!r} is not allowed: it must be {expected}", hint)


def require_finite(key: str, value: float, low: float = 0.0, *, inclusive: bool = True) -> None:
    """Require a finite number at or above `low`, strictly above it unless `inclusive`."""
    above = value >= low if inclusive else value > low
    word = "at or above" if inclusive else "above"
    require(math.isfinite(value) and above, key, value, f"{word} {low:g}")


def require_share(key: str, value: float) -> None:
    """Require a number in [0, 1]."""
    require(0 <= value <= 1, key, value, "in [0, 1]")


def require_choice(key: str, value: str, choices: Collection[str]) -> None:
    """Require one of `choices`."""
    require(value in choices, key, value, "one of " + ", ".join(choices))

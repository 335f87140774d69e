"""Values in words, as Grafana writes them for a unit."""

import math
from collections.abc import Callable
from datetime import UTC, datetime

SHORT = ("", "K", "M", "G", "T")
BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


def shown(value: float, unit: str) -> str:
    """A value with its unit."""
    if not math.isfinite(value):
        return str(value)
    return WRITERS.get(unit, _plain)(value)


def _plain(value: float) -> str:
    return f"{value:.4g}"


def _scaled(value: float, base: int, names: tuple[str, ...]) -> str:
    place = 0
    while abs(value) >= base and place < len(names) - 1:
        value, place = value / base, place + 1
    return f"{value:.3g} {names[place]}".strip()


def _duration(seconds: float) -> str:
    for size, name in ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {name}"
    return f"{1e6 * seconds:.3g} µs" if seconds else "0 s"


WRITERS: dict[str, Callable[[float], str]] = {
    "percentunit": lambda value: f"{100 * value:.3g} %",
    "bytes": lambda value: _scaled(value, 1024, BINARY),
    "short": lambda value: _scaled(value, 1000, SHORT),
    "s": _duration,
    "watt": lambda value: f"{value:.4g} W",
    "celsius": lambda value: f"{value:.4g} °C",
    "dateTimeAsIso": lambda value: f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%d %H:%M:%S}",
}

"""Log events: a name and fields. Human lines on stderr; JSON lines in a file when asked.

    log = logging.getLogger(__name__)
    event(log, logging.INFO, "data.prepared", rows=2125, source="census")

What is true for many events in a row (run, step, phase) is bound once with `bind` and added to
every JSON line. Loggers below `naics_job` speak at INFO; other packages are heard from WARNING on.
"""

import json
import logging
import math
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from naics_job.errors import ConfigError

HEADER = ("time", "level", "logger", "event", "rank")  # keys of a line that no field may replace

_bound: dict[str, object] = {}  # replaced as a whole, so that other threads see old or new


def bind(**fields: object) -> None:
    """Add `fields` (for example run, step, phase) to every later JSON line; None takes one away."""
    global _bound  # noqa: PLW0603  (process-wide on purpose: a context variable is per thread)
    merged = {**_bound, **fields}
    _bound = {name: value for name, value in merged.items() if value is not None}


def unbind_all() -> None:
    """Forget everything bound, at the end of a run."""
    bind(**dict.fromkeys(_bound))


def event(log: logging.Logger, level: int, name: str, /, **fields: object) -> None:
    """Log the event `name` with `fields` under the logger of the calling module."""
    if log.isEnabledFor(level):
        log.log(level, name, extra={"fields": fields}, stacklevel=2)


class StderrHandler(logging.StreamHandler[Any]):
    """Writes to what `sys.stderr` is at that moment, not to a stream that has been closed since."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """The current standard error."""
        return sys.stderr


def setup_logging(*, verbose: bool = False, json_path: str | None = None) -> None:
    """Send events to stderr and, with `json_path`, to a JSON lines file; may be called again.

    Rank r > 0 of a multi-process run shows only warnings on stderr and writes to
    `<name>.rank<r>.<ext>`, so that no two processes append to one file.

    Raises:
        ConfigError: the file cannot be written.
    """
    rank, world_size = _number("RANK", 0), _number("WORLD_SIZE", 1)
    console = StderrHandler()
    console.setFormatter(ConsoleFormatter(rank if world_size > 1 else None))
    console.setLevel(logging.DEBUG if verbose or rank == 0 else logging.WARNING)
    handlers: list[logging.Handler] = [console]
    if json_path is not None:
        handlers.append(_open_json(json_path, rank))
    root = logging.getLogger()
    for old in [h for h in root.handlers if getattr(h, "naics_job", False)]:
        root.removeHandler(old)
        with suppress(OSError):  # its disk is full: told already
            old.close()
    for handler in handlers:
        handler.naics_job = True  # type: ignore[attr-defined]
        root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("naics_job").setLevel(logging.DEBUG if verbose else logging.INFO)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default


def _open_json(json_path: str, rank: int) -> logging.Handler:
    hint = "set dirs.log_dir to a local folder that this user may write"
    if "://" in json_path:
        raise ConfigError(f"cannot append log lines to {json_path}: it is not a local path", hint)
    path = Path(json_path)
    path = path.with_name(f"{path.stem}.rank{rank}{path.suffix}") if rank else path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = JsonLinesHandler(path, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"cannot write logs to the folder {path.parent}: {reason}", hint
        ) from error
    handler.setFormatter(JsonFormatter(rank))
    return handler


class JsonLinesHandler(logging.FileHandler):
    """A log file whose failure (a full disk) is told once and does not stop the run."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Tell the first failure on stderr."""
        if not self.failed:
            self.failed = True
            sys.stderr.write(f"log lines are being lost: {sys.exc_info()[1]}\n")


class JsonFormatter(logging.Formatter):
    """One JSON object per event: `HEADER`, what is bound, then the fields of the event."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a number that JSON cannot hold is written as "nan", "inf" or "-inf"."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            "rank": self.rank,
        }
        extra = {**_bound, **_fields(record)}
        line |= {f"field_{k}" if k in HEADER else k: value for k, value in extra.items()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(json_safe(line), allow_nan=False, ensure_ascii=False)


class ConsoleFormatter(logging.Formatter):
    """`12:03:04 INFO data.prepared rows=2125 source=census`; with the rank if there are several."""

    def __init__(self, rank: int | None) -> None:
        super().__init__()
        self.prefix = "" if rank is None else f"[rank {rank}] "

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by the traceback of an exception if there is one."""
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        fields = "".join(f" {k}={_shown(value)}" for k, value in _fields(record).items())
        line = f"{clock} {record.levelname} {self.prefix}{record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def json_safe(value: object) -> Any:
    """Return `value` as plain JSON data: non-finite floats and unknown objects become text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_safe(item) for item in value]
    if callable(item := getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:
        return json_safe(item())  # a numpy or torch scalar
    return str(value)


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, Mapping) else {}


def _shown(value: object) -> str:
    plain = json_safe(value)
    if isinstance(plain, float):
        return f"{plain:.6g}"
    if isinstance(plain, str) and plain and not any(c.isspace() or c in '"=' for c in plain):
        return plain
    return json.dumps(plain, ensure_ascii=False)

"""The last word of a pod: how it ended, as one line of JSON where the kubelet looks for it.

The kubelet gives a container a file for it and shows the first 4096 bytes in the pod's status,
which outlives the container and its log.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from naics_job.errors import UNEXPECTED, NaicsJobError

KUBELET_FILE = Path("/dev/termination-log")  # terminationMessagePath's default
LIMIT_BYTES = 4096
TEXT_CHARACTERS = 1000  # of a message and of a hint, which may quote a user's value


@dataclass
class LastWord:
    """What will be written when the launcher ends."""

    exit_code: int = UNEXPECTED  # of the contract
    summary: Mapping[str, Any] = field(default_factory=dict)  # what training told of the run


@contextmanager
def last_word(path: Path) -> Iterator[LastWord]:
    """Write how the body ended to `path` if there is such a file; exceptions go on.

    Fields: exit_code, message and hint of a failure of the launcher itself, and what the first
    training process told: see `naics_job.training.record.RunRecord.summary`.
    """
    word = LastWord()
    failure: dict[str, str] = {}
    try:
        yield word
    except NaicsJobError as error:
        word.exit_code = code_of(error)
        failure = {"message": _short(str(error.args[0])), "hint": _short(error.hint)}
        raise
    except SystemExit as error:
        word.exit_code = code_of(error)
        raise
    except BaseException as error:
        failure = {"message": _short(f"{type(error).__name__}: {error}")}
        raise
    finally:
        if path.is_file():
            with suppress(OSError):  # it must not change how the launcher ends
                path.write_text(_fitting(word, failure), encoding="utf-8")


def code_of(error: NaicsJobError | SystemExit) -> int:
    """The exit code that `error` leads to."""
    if isinstance(error, NaicsJobError):
        return error.exit_code
    return error.code if isinstance(error.code, int) else UNEXPECTED


def _fitting(word: LastWord, failure: Mapping[str, str]) -> str:
    """JSON of at most `LIMIT_BYTES`; what is most of it is left out first."""
    summary = dict(word.summary)
    for left_out in (None, "metrics", "error", *summary):
        if left_out is not None:
            summary.pop(left_out, None)
        text = json.dumps({"exit_code": word.exit_code, **failure, **summary}, ensure_ascii=False)
        if len(text.encode()) <= LIMIT_BYTES:
            return text
    return json.dumps({"exit_code": word.exit_code})


def _short(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"

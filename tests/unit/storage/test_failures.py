"""Which storage failures a later try may mend."""

import errno

import pytest

from naics_job.errors import CheckpointError, DataError, NaicsJobError, TransientError
from naics_job.storage.failures import translated


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(errno.ENOENT, "x"), DataError),
        (IsADirectoryError(errno.EISDIR, "x"), DataError),
        (PermissionError(errno.EACCES, "x"), DataError),
        (OSError(errno.EROFS, "x"), DataError),
        (OSError(errno.ENOSPC, "x"), DataError),
        (OSError(errno.EIO, "x"), DataError),
        (ConnectionResetError(errno.ECONNRESET, "x"), TransientError),
        (BrokenPipeError(errno.EPIPE, "x"), TransientError),
        (TimeoutError(), TransientError),
        (OSError(errno.ENETUNREACH, "x"), TransientError),
    ],
)
def test_each_failure_has_its_place(error: OSError, expected: type[NaicsJobError]) -> None:
    where = "data/a.parquet"
    with pytest.raises(NaicsJobError, match=where) as caught, translated("read", where):
        raise error
    assert type(caught.value) is expected
    assert caught.value.hint
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [CheckpointError("x"), KeyError("x"), KeyboardInterrupt()])
def test_other_exceptions_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, translated("read", "a"):
        raise error
    assert caught.value is error

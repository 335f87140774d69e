"""Which storage failures a later try may mend."""

import errno

import pytest
from aiohttp import InvalidURL, ServerDisconnectedError
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ProfileNotFound,
)
from s3fs.errors import translate_boto_error

from naics_job.errors import CheckpointError, DataError, NaicsJobError, TransientError
from naics_job.storage.failures import is_expired, translated


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


def answer(status: int, code: str) -> ClientError:
    metadata = {"HTTPStatusCode": status}
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": metadata}, "GetObject")


@pytest.mark.parametrize(
    ("status", "code", "expected", "words"),
    [
        (404, "NoSuchKey", DataError, "no such file"),
        (404, "404", DataError, "no such file"),
        (404, "NoSuchBucket", DataError, "the bucket does not exist"),
        (403, "AccessDenied", DataError, "AccessDenied"),
        (403, "SignatureDoesNotMatch", DataError, "SignatureDoesNotMatch"),
        (412, "PreconditionFailed", DataError, "PreconditionFailed"),
        (501, "NotImplemented", DataError, "NotImplemented"),
        (400, "InvalidArgument", DataError, "InvalidArgument"),
        (301, "PermanentRedirect", DataError, "AWS_DEFAULT_REGION"),
        (403, "RequestTimeTooSkewed", DataError, "set the clock"),
        (400, "ExpiredToken", TransientError, "ExpiredToken"),
        (400, "400", TransientError, "400"),  # of HEAD
        (400, "BadDigest", TransientError, "BadDigest"),
        (400, "RequestTimeout", TransientError, "RequestTimeout"),
        (409, "OperationAborted", TransientError, "OperationAborted"),
        (429, "429", TransientError, "429"),
        (500, "InternalError", TransientError, "InternalError"),
        (502, "502", TransientError, "502"),
        (503, "SlowDown", TransientError, "SlowDown"),
    ],
)
def test_answers_of_s3_have_their_place(
    status: int, code: str, expected: type[NaicsJobError], words: str
) -> None:
    """As s3fs raises them: an OSError of its choice, caused by what botocore raised."""
    with pytest.raises(expected, match=words), translated("read", "s3://bucket/a"):
        raise translate_boto_error(answer(status, code))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (EndpointConnectionError(endpoint_url="http://a"), TransientError),
        (CredentialRetrievalError(provider="web identity", error_msg="x"), TransientError),
        (NoCredentialsError(), DataError),
        (ProfileNotFound(profile="x"), DataError),
        (ParamValidationError(report="bucket name"), DataError),
        (ServerDisconnectedError(), TransientError),
        (InvalidURL("http:/"), DataError),
    ],
)
def test_what_clients_raise_has_its_place(error: Exception, expected: type[NaicsJobError]) -> None:
    with pytest.raises(expected), translated("read", "s3://bucket/a"):
        raise error


def test_expired_credentials_are_told_apart() -> None:
    assert is_expired(translate_boto_error(answer(400, "ExpiredToken")))
    assert not is_expired(translate_boto_error(answer(403, "AccessDenied")))
    assert not is_expired(None)


@pytest.mark.parametrize("error", [CheckpointError("x"), KeyError("x"), KeyboardInterrupt()])
def test_other_exceptions_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, translated("read", "a"):
        raise error
    assert caught.value is error

"""How long a remote request is repeated, and which file system serves a URL."""

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import fsspec
import pytest

from naics_job.errors import ConfigError, DataError, TransientError
from naics_job.storage import remote, retry, sessions

REAL = retry.PATIENCE
URL = "memory://remote-test/a.bin"


class Flaky:
    """A request that fails with `error` the first `failures` times."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, fs: Any, inside: str) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return inside


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PATIENCE", retry.Patience(attempts=4, base_s=0.0, cap_s=0.0))


def test_a_hiccup_is_asked_again_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    request = Flaky(3, ConnectionResetError("x"))
    assert remote.insist("read", URL, request).endswith("remote-test/a.bin")
    assert request.calls == 4
    retries = [(record.message, record.levelno) for record in caplog.records]
    assert retries == [("storage.retry", logging.WARNING)] * 3


def test_the_budget_ends() -> None:
    request = Flaky(9, ConnectionResetError("x"))
    with pytest.raises(TransientError, match=r"cannot read memory://remote-test/a\.bin"):
        remote.insist("read", URL, request)
    assert request.calls == 4


@pytest.mark.parametrize("error", [FileNotFoundError("x"), PermissionError("x")])
def test_a_permanent_error_is_raised_at_once(error: Exception) -> None:
    request = Flaky(9, error)
    with pytest.raises(DataError):
        remote.insist("read", URL, request)
    assert request.calls == 1


def test_who_limits_the_waiting_is_told_at_once() -> None:
    request = Flaky(9, ConnectionResetError("x"))
    with pytest.raises(TransientError):
        remote.insist("read", URL, request, timeout_s=1.0)
    assert request.calls == 1


def test_sessions_are_made_anew() -> None:
    before, _ = sessions.filesystem(URL)
    assert sessions.filesystem(URL)[0] is before
    sessions.forget(before)
    after, _ = sessions.filesystem(URL)
    assert after is not before
    sessions.forget(before)  # by another thread that met the same trouble
    assert sessions.filesystem(URL)[0] is after


def test_listings_of_a_bucket_are_never_cached() -> None:
    fs, inside = sessions.filesystem("s3://bucket/run/a.ckpt")
    assert inside == "bucket/run/a.ckpt"
    fs.dircache["bucket/run"] = []
    assert "bucket/run" not in fs.dircache
    assert fs is not fsspec.filesystem("s3")  # nobody else's settings or transactions


@pytest.mark.parametrize("url", ["nosuchscheme://a/b", "gdrive://a/b"])
def test_an_unknown_scheme_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="cannot use"):
        remote.insist("read", url, Flaky(0, KeyError()))


def test_purposes_are_served_apart() -> None:
    """By objects that nobody else has, and the same ones in each thread."""
    data, _ = sessions.filesystem(URL)
    with sessions.serving("checkpoints"):
        checkpoints, _ = sessions.filesystem(URL)
        with sessions.serving("control"):
            control, _ = sessions.filesystem(URL)
        assert sessions.filesystem(URL)[0] is checkpoints
    assert len({id(fs) for fs in (data, checkpoints, control, fsspec.filesystem("memory"))}) == 4
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(sessions.filesystem, URL).result()[0] is data
        served = sessions.serving("control")(sessions.filesystem)
        assert pool.submit(served, URL).result()[0] is control


def test_a_forked_child_has_its_own() -> None:
    before, _ = sessions.filesystem(URL)
    with sessions._lock:  # as if another thread of the parent were there just now
        child = os.fork()
        if child == 0:
            os._exit(int(sessions.filesystem(URL)[0] is before))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_minutes_are_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PATIENCE", REAL)
    assert REAL.budget_s >= 60.0
    retry.be_patient(7.5)
    assert replace(REAL, budget_s=450.0) == retry.PATIENCE


def test_who_tries_again_itself_is_told_at_once() -> None:
    request = Flaky(9, ConnectionResetError("x"))
    with remote.impatient(), pytest.raises(TransientError):
        remote.insist("read", URL, request)
    assert request.calls == 1


def test_an_endpoint_that_redirects_without_end_is_a_setting_to_correct() -> None:
    """As a web server before S3 that wants https: botocore then asks for the region for ever."""
    with pytest.raises(ConfigError, match="redirected every request") as caught:
        remote.insist("list", "s3://bucket/run", Flaky(1, RecursionError()))
    assert "AWS_ENDPOINT_URL" in caught.value.hint

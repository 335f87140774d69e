"""A cluster, an image and an S3 server in it. Nothing here is special to a kind of cluster.

KUBECONFIG               the cluster; with a right to make a namespace
NAICS_E2E_IMAGE          CPU image that its nodes can pull or have, such as naics-train:ci-cpu
NAICS_E2E_KIND           PyTorchJob (default, needs the training operator), TrainJob, JobSet or Job
NAICS_E2E_STORAGE_IMAGE  replaces the image of k8s/dev/s3.yaml, for clusters without network
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import s3fs
import yaml
from tiny_bert import make_tiny

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/naics-train"
CLI = (sys.executable, "-c", "from naics_job.cli.app import main; main()", "job")
BUCKET = "naics"
RESTRICTED = "pod-security.kubernetes.io"


@dataclass(frozen=True)
class Cluster:
    """Commands against one namespace."""

    namespace: str
    kind: str
    image: str

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> str:
        return self._run(["kubectl", "-n", self.namespace, *arguments], text, check)

    def helm(self, *arguments: str, check: bool = True) -> str:
        return self._run(["helm", "-n", self.namespace, *arguments], None, check)

    def job(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`naics-embedder job ...`, whatever it ends with."""
        return subprocess.run(
            [*CLI, *arguments, "--namespace", self.namespace],
            capture_output=True, text=True, timeout=1200, check=False,
        )  # fmt: skip

    def runs(self) -> list[dict[str, Any]]:
        """The runs of the namespace, newest first."""
        found: list[dict[str, Any]] = json.loads(self.job("list", "--output", "json").stdout)
        return found

    def pods(self) -> list[dict[str, Any]]:
        """Pods of runs that are not being deleted."""
        text = self.kubectl("get", "pods", "-l", "naics.dev/run", "-o", "json")
        pods: list[dict[str, Any]] = json.loads(text)["items"]
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def _run(self, command: list[str], text: str | None, check: bool) -> str:
        ended = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=600, check=False
        )
        output = ended.stdout + ended.stderr
        assert not check or ended.returncode == 0, f"{' '.join(command)}: {output}"
        return output if not check else ended.stdout


def wait_until(what: str, done: Callable[[], Any], seconds: float) -> Any:
    """The first true answer of `done`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := done():
            return answer
        time.sleep(2)
    raise AssertionError(f"not within {seconds:g} s: {what}")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A namespace of its own that enforces the restricted profile; removed afterwards."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("needs a cluster: set KUBECONFIG")
    image = os.environ.get("NAICS_E2E_IMAGE")
    if not image:
        pytest.skip("needs a CPU image that the cluster can run: set NAICS_E2E_IMAGE")
    for command in ("kubectl", "helm"):
        if shutil.which(command) is None:
            pytest.skip(f"needs {command} on the PATH")
    name = f"naics-e2e-{uuid.uuid4().hex[:6]}"
    found = Cluster(name, os.environ.get("NAICS_E2E_KIND", "PyTorchJob"), image)
    labels = {f"{RESTRICTED}/{mode}": "restricted" for mode in ("enforce", "warn")}
    namespace = {
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
    }  # fmt: skip
    found.kubectl("apply", "-f", "-", text=yaml.safe_dump(namespace))
    try:
        yield found
    finally:
        found.kubectl("delete", "namespace", name, "--wait=false", check=False)


@contextmanager
def forwarded(cluster: Cluster, target: str, port: int) -> Iterator[int]:
    """A port of this machine that leads to `target`."""
    command = ["kubectl", "-n", cluster.namespace, "port-forward", target, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            match = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            assert match is not None, f"kubectl port-forward {target} told no port"
            yield int(match[1])
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def store(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[s3fs.S3FileSystem]:
    """The S3 server of k8s/dev in the namespace, with a tiny encoder at weights/tiny."""
    manifest = (ROOT / "k8s/dev/s3.yaml").read_text()
    if own := os.environ.get("NAICS_E2E_STORAGE_IMAGE"):
        manifest = re.sub(r"image: \S*seaweedfs\S*", f"image: {own}", manifest)
    cluster.kubectl("apply", "-f", "-", text=manifest)
    cluster.kubectl("rollout", "status", "deployment/naics-s3", "--timeout=300s")
    secret = next(d for d in yaml.safe_load_all(manifest) if d["kind"] == "Secret")["stringData"]
    with forwarded(cluster, "service/naics-s3", 8333) as port:
        filesystem = s3fs.S3FileSystem(
            key=secret["AWS_ACCESS_KEY_ID"],
            secret=secret["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=f"http://127.0.0.1:{port}",
            use_listings_cache=False,
        )
        wait_until("the bucket", lambda: filesystem.exists(BUCKET), 60)
        tiny = make_tiny(tmp_path_factory.mktemp("tiny-bert"))
        filesystem.put(f"{tiny}/", f"{BUCKET}/weights/tiny/", recursive=True)
        yield filesystem

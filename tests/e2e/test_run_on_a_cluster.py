"""A run on a cluster from `helm install` to `helm uninstall`, in the order of the file."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import s3fs
import yaml

from .conftest import BUCKET, CHART, Cluster, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
RELEASE, PODS = "naics-train", 2
FOLDER = f"{BUCKET}/naics"
CHECKPOINTS = f"{FOLDER}/checkpoints/e2e"
START_S, SAVE_S, RESUME_S = 600, 300, 300


def values(cluster: Cluster) -> dict[str, Any]:
    """Two pods of one CPU process each, on a run of 1,600 steps: half a minute to eight."""
    repository, _, tag = cluster.image.rpartition(":")
    found: dict[str, Any] = yaml.safe_load((CHART / "examples/cpu-smoke.yaml").read_text())
    found |= {
        "kind": cluster.kind,
        "nodes": PODS,
        "nprocPerNode": 1,
        "events": {"enabled": True},
        "resources": {  # so that a node of two processors holds both, and the S3 server
            "requests": {"cpu": "250m", "memory": "1Gi"},
            "limits": {"memory": "4Gi"},
        },
        "image": {"repository": repository, "tag": tag, "flavor": "cpu"},
        "s3": {**found["s3"], "bucket": BUCKET, "prefix": "naics"},
    }
    config = found["config"]
    config["experiment_name"] = "e2e"
    config["model"] |= {
        "base_model_name": f"s3://{BUCKET}/weights/tiny", "tree_dim": 16, "lexical_dim": 8,
        "eval_every_n_epochs": 500,
    }  # fmt: skip
    tokens = {"title": 16, "description": 32, "examples": 32, "excluded": 16}  # of the tiny one
    config["data_loader"]["tokenization"] = {"max_tokens": tokens}
    config["training"]["trainer"]["max_epochs"] = 400
    return found


class Release:
    """The Helm release and what it left in the store."""

    def __init__(self, cluster: Cluster, store: s3fs.S3FileSystem, file: Path) -> None:
        self.cluster, self.store, self.file = cluster, store, file

    def install(self, *options: str, check: bool = True) -> str:
        action = ("upgrade", "--install", RELEASE, str(CHART), "--values", str(self.file))
        return self.cluster.helm(*action, *options, check=check)

    def wait_until(self, what: str, done: Callable[[], Any], seconds: float) -> Any:
        """The first true answer of `done`, unless the run fails before."""

        def alive_and_done() -> Any:
            run = self.cluster.runs()[0]
            logs = self.cluster.job("logs", run["name"]) if run["phase"] == "Failed" else None
            assert logs is None, f"{run['name']} failed: {logs.stdout[-4000:]}{logs.stderr}"
            return done()

        return wait_until(what, alive_and_done, seconds)

    @property
    def run(self) -> str:
        """Name of the newest run."""
        return str(self.cluster.runs()[0]["name"])

    def starts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._json(f"{CHECKPOINTS}/starts.json")["starts"]
        return found

    def record(self) -> dict[str, Any]:
        return self._json(f"{FOLDER}/outputs/e2e/run_record.json")

    def saved_by(self) -> int | None:
        """Processes that took part in a checkpoint; old ones may go while they are looked at."""
        for manifest in self.store.glob(f"{CHECKPOINTS}/*/*.manifest.json"):
            with suppress(FileNotFoundError):
                return int(self._json(manifest)["world_size"])
        return None

    def _json(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.store.cat_file(path))
        return found


@pytest.fixture(scope="module")
def release(
    cluster: Cluster, store: s3fs.S3FileSystem, tmp_path_factory: pytest.TempPathFactory
) -> Release:
    file = tmp_path_factory.mktemp("e2e") / "values.yaml"
    file.write_text(yaml.safe_dump(values(cluster)))
    return Release(cluster, store, file)


def test_install_meets_the_restricted_profile(release: Release) -> None:
    told = release.install(check=False)
    assert "STATUS: deployed" in told
    assert "would violate PodSecurity" not in told
    assert len(release.cluster.runs()) == 1


def test_all_ranks_join_and_a_checkpoint_lands(release: Release) -> None:
    cluster = release.cluster

    def all_run() -> bool:
        phases = [pod["status"].get("phase") for pod in cluster.pods()]
        return phases == ["Running"] * PODS

    release.wait_until("all pods run", all_run, START_S)
    assert release.wait_until("a checkpoint", release.saved_by, SAVE_S) == PODS
    shown = cluster.job("status", release.run, "--output", "json")
    assert json.loads(shown.stdout)["phase"] == "Running", shown.stderr


def test_helm_test_passes(release: Release) -> None:
    release.cluster.helm("test", RELEASE, "--timeout", "300s")


def test_an_upgrade_leaves_a_live_run_alone(release: Release) -> None:
    before = release.run
    told = release.install("--set", "config.seed=7", check=False)
    assert "run.replace" in told
    assert [run["name"] for run in release.cluster.runs()] == [before]


def test_a_deleted_pod_loses_nothing(release: Release) -> None:
    victim = release.cluster.pods()[-1]["metadata"]["name"]
    release.cluster.kubectl("delete", "pod", victim, "--wait=false")

    def resumed() -> bool:
        starts = release.starts()
        return len(starts) > 1 and starts[0]["exit_code"] == 143

    release.wait_until("another start", resumed, RESUME_S)


def test_it_finishes_with_the_code_of_the_contract(release: Release) -> None:
    ended = release.cluster.job("wait", release.run, "--timeout", "1200")
    assert ended.returncode == 0, ended.stderr
    record = release.record()
    assert (record["status"], record["lost_steps"]) == ("finished", 0)
    assert record["restarts"] >= 1


def test_the_run_told_its_phases_and_its_end(release: Release) -> None:
    selector = f"involvedObject.kind={release.cluster.kind},involvedObject.name={release.run}"
    found = release.cluster.kubectl("get", "events", "--field-selector", selector, "-o", "json")
    told = {each["reason"] for each in json.loads(found)["items"]}
    assert told >= {"PhaseStarted", "TrainingStopped", "TrainingFinished"}


def test_an_upgrade_after_the_end_is_another_run(release: Release) -> None:
    before = release.run
    release.install("--set", "config.experiment_name=e2e-two", "--set",
                    "config.training.trainer.max_epochs=2")  # fmt: skip
    after = release.run
    assert after != before
    ended = release.cluster.job("wait", after, "--timeout", "900")
    assert ended.returncode == 0, ended.stderr


def test_uninstall_leaves_the_runs(release: Release) -> None:
    before = {run["name"] for run in release.cluster.runs()}
    release.cluster.helm("uninstall", RELEASE)
    assert {run["name"] for run in release.cluster.runs()} == before

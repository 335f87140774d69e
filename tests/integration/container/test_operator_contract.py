"""Two workers under what the training operator v1.9.4 does with them, as a stand-in does it.

Real are the image, podman's network and its DNS, the S3 server, and torch's processes. The operator
is `operator_standin`: tests/e2e meets a real one.
"""

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from operator_standin import OperatorStandIn

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3000)]
SETTINGS = {
    "training.trainer.max_epochs": 20,
    "training.trainer.num_nodes": 2,
    "data_loader.batch_size": 4,
    "data_loader.global_batch_size": 8,
}


@pytest.fixture
def job(
    engine: Any, image: str, network: Any, store: Any, tmp_path: Path
) -> Iterator[OperatorStandIn]:
    """A Worker-only PyTorchJob of two pods, as the chart writes it."""
    name = f"naics-{secrets.token_hex(3)}"
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(store.settings(**SETTINGS)))
    options = [
        *("--network", network.name, "--volume", f"{file}:/etc/naics/config.yaml:ro"),
        *("--env", "OMP_NUM_THREADS=1", *store.options),
    ]
    arguments = [
        *("launch", "--nnodes", "2", "--nproc-per-node", "1"),
        *("--rdzv-endpoint", f"{name}-worker-0:29400", "--"),
        *("train", "--config", "/etc/naics/config.yaml", "--ckpt-path", "auto"),
    ]
    job = OperatorStandIn(engine, name, image, tmp_path, 2, arguments, options)
    yield job
    job.remove()


def test_a_preempted_worker_costs_the_job_no_step(job: OperatorStandIn, store: Any) -> None:
    job.submit()
    first, second = job.workers
    first.wait_for_steps()
    # The metrics of both workers are scraped here, while they train: ports 9400 of both names.
    second.terminate()
    assert [worker.finish() for worker in job.workers] == [143, 143], job.output
    stopped = json.loads(store.read("output/smoke/run_record.json"))

    job.run_to_the_end()
    assert not job.failed, job.output
    assert job.endings == {first.name: [143], second.name: [143]}
    record = json.loads(store.read("output/smoke/run_record.json"))
    assert (record["status"], record["restarts"], record["lost_steps"]) == ("finished", 1, 0)
    assert record["run_id"] == stopped["run_id"]
    starts = json.loads(store.read("checkpoint/smoke/starts.json"))["starts"]
    assert [row["exit_code"] for row in starts] == [143, 0]
    assert starts[1]["step"] == stopped["steps"]
    manifests = [key for key in store.keys("checkpoint/") if key.endswith(".manifest.json")]
    assert {json.loads(store.read(key))["world_size"] for key in manifests} == {2}

"""Loader workers that come, fail and go: nothing hangs or is left, each failure has a code."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from naics_job.data import loader_worker
from naics_job.errors import TransientError

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:.*suggested max number of worker"),
]
CYCLES = 6  # of five kinds, two of them kills
CAMPAIGN = Path(__file__).parents[2] / "benchmarks/chaos/loader_cycles.py"


@pytest.mark.timeout(900)
def test_some_cycles_leave_nothing() -> None:
    """The long form is `python benchmarks/chaos/loader_cycles.py`."""
    command = [sys.executable, str(CAMPAIGN), "--cycles", str(CYCLES)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    counts = json.loads(ended.stdout)
    assert counts["cycles"] == CYCLES
    assert counts["SIGKILL"] >= 1
    assert counts["SIGTERM"] >= 1
    wrong = ("hangs", "leftover_processes", "leftover_shared_memory", "leftover_files")
    assert {name: counts[name] for name in wrong} == dict.fromkeys(wrong, 0)
    assert ended.returncode == 0


def test_a_worker_loads_neither_lightning_nor_a_client_of_a_store() -> None:
    heavy = "{'lightning', 's3fs', 'aiohttp', 'transformers'}"
    code = f"import sys, {loader_worker.__name__}; print({heavy} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_a_killed_worker_is_a_hiccup(loader: Any) -> None:
    batches = iter(loader)
    next(batches)
    loader._iterator._timeout = 3.0  # with a timeout, PyTorch looks for the workers after it only
    for worker in loader._iterator._workers:
        os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(TransientError, match="worker") as error:
        list(batches)
    assert error.value.exit_code == 75


def test_a_worker_that_hangs_is_a_hiccup(loader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = iter(loader)
    next(batches)
    workers = loader._iterator._workers
    for worker in workers:
        os.kill(worker.pid, signal.SIGSTOP)
    loader._iterator._timeout = 3.0
    try:
        with pytest.raises(TransientError, match="timed out"):
            list(batches)
    finally:
        for worker in workers:
            os.kill(worker.pid, signal.SIGCONT)


@pytest.fixture
def loader() -> Any:
    import numpy as np

    from naics_job.config.load import load_config
    from naics_job.data.datamodule import NaicsDataModule
    from naics_job.data.prepare import NaicsData
    from naics_job.data.triplets import positive_table
    from naics_job.taxonomy.codes import bundled_titles
    from naics_job.taxonomy.tree import Taxonomy

    rows = [row for row in bundled_titles() if row[0].startswith(("21", "31-33"))]
    taxonomy = Taxonomy.from_codes(*zip(*rows, strict=True))
    none = np.zeros(len(taxonomy) + 1, dtype=np.int64), np.empty(0, dtype=np.int64)
    data = NaicsData(taxonomy, {}, none, positive_table(taxonomy), "bundled", "0" * 64)
    config = load_config(None, "smoke", ["data_loader.num_workers=2"]).config
    module = NaicsDataModule(data, config, global_batch_size=4)
    return module.train_dataloader()

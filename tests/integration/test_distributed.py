"""Two real gloo processes: shares cover all rows once, and gathering keeps gradients."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from naics_job.distributed import broadcast_object, gather_rows, rank, share_of, world_size

pytestmark = pytest.mark.integration
NUM_ROWS = (1, 4, 7)


def rows_of(num_rows: int) -> torch.Tensor:
    return torch.arange(num_rows * 3, dtype=torch.float32).reshape(num_rows, 3) + 1


def worker(process: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=store, rank=process, world_size=2)
    for num_rows in NUM_ROWS:
        weight = torch.ones(3, requires_grad=True)
        mine = rows_of(num_rows)[share_of(num_rows)] * weight
        pool = gather_rows(mine, num_rows)  # [num_rows, 3]
        (pool * (process + 1)).sum().backward()  # each process weighs the pool differently
        facts = {"size": world_size(), "rank": rank(), "told": broadcast_object(process + 10)}
        result = {"pool": pool.detach(), "grad": weight.grad, **facts}
        torch.save(result, f"{folder}/{num_rows}-{process}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("gloo")
    mp.spawn(worker, args=(str(folder),), nprocs=2)

    def load(num_rows: int, process: int) -> dict[str, Any]:
        loaded: dict[str, Any] = torch.load(Path(folder) / f"{num_rows}-{process}.pt")
        return loaded

    return {rows: [load(rows, process) for process in range(2)] for rows in NUM_ROWS}


@pytest.mark.parametrize("num_rows", NUM_ROWS)
def test_every_process_holds_every_row(
    results: dict[int, list[dict[str, Any]]], num_rows: int
) -> None:
    for process, result in enumerate(results[num_rows]):
        torch.testing.assert_close(result["pool"], rows_of(num_rows))
        assert (result["size"], result["rank"], result["told"]) == (2, process, 10)


@pytest.mark.parametrize("num_rows", NUM_ROWS)
def test_gradients_of_both_processes_reach_who_computed_the_row(
    results: dict[int, list[dict[str, Any]]], num_rows: int
) -> None:
    first, second = (result["grad"] for result in results[num_rows])
    share = num_rows // 2 + num_rows % 2
    torch.testing.assert_close(first, 3 * rows_of(num_rows)[:share].sum(0))
    torch.testing.assert_close(second, 3 * rows_of(num_rows)[share:].sum(0))

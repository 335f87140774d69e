"""Where a launcher stands, from its options and from what operators inject."""

import os
from pathlib import Path

import pytest

from naics_job.config.load import load_config
from naics_job.errors import ConfigError
from naics_job.launch.placement import (
    LaunchOptions,
    Placement,
    here,
    place,
    without_places,
)
from naics_job.launch.torchrun import torchrun_command, torchrun_environment

# what the Kubeflow training operator v1.9 sets in the pods of a job "j"
WITH_MASTER = {
    "PYTHONUNBUFFERED": "1",
    "PET_NPROC_PER_NODE": "2",
    "PET_NNODES": "3",
    "MASTER_ADDR": "j-master-0",
    "PET_MASTER_ADDR": "j-master-0",
    "MASTER_PORT": "23456",
    "PET_MASTER_PORT": "23456",
    "WORLD_SIZE": "6",
    "RANK": "2",
    "PET_NODE_RANK": "2",
}
ELASTIC = {
    "PET_NPROC_PER_NODE": "auto",
    "PET_RDZV_ENDPOINT": "j-worker-0:29400",
    "PET_RDZV_BACKEND": "c10d",
    "PET_NNODES": "1:3",
    "PET_MAX_RESTARTS": "3",
    "PET_RDZV_ID": "job-17",
    "PET_RDZV_CONF": "read_timeout=90,join_timeout=50",
    "PET_STANDALONE": "",
}
WORKERS_ONLY = {"PET_NPROC_PER_NODE": "1", "PET_NNODES": "2"}
TRAINER_V2 = {
    "PET_NNODES": "2",
    "PET_NPROC_PER_NODE": "1",
    "PET_NODE_RANK": "1",
    "PET_MASTER_ADDR": "t-node-0-0.t",
    "PET_MASTER_PORT": "29500",
}


def placed(environ: dict[str, str], *settings: str, name: str = "box", **options: object):  # type: ignore[no-untyped-def]
    config = load_config(None, "smoke", settings).config
    given = LaunchOptions(**options)  # type: ignore[arg-type]
    return place(given, config, {"PATH": "", **environ}, name)


def command(placement: Placement) -> list[str]:
    config = load_config(None, "smoke", []).config
    return torchrun_command(placement, ["train", "x=1"], config.launch)


def conf(placement: Placement) -> set[str]:
    (found,) = [word for word in command(placement) if word.startswith("--rdzv-conf=")]
    return set(found.removeprefix("--rdzv-conf=").split(","))


def test_a_machine_alone_takes_what_the_settings_say() -> None:
    placement = placed({}, "training.trainer.devices=3")
    assert (placement.num_processes, placement.max_nodes, placement.node_rank) == (3, 1, 0)
    assert placement == here(load_config(None, "smoke", []).config, 3)
    words = command(placement)
    assert "--rdzv-endpoint=127.0.0.1:0" in words  # a free port
    assert "--local-addr=127.0.0.1" in words
    assert {"--nnodes=1", "--nproc-per-node=3", "--max-restarts=0"} <= set(words)
    assert "--shutdown-timeout=20" in words
    assert words[-4:] == ["-m", "naics_job.cli.app", "train", "x=1"]


def test_options_win_over_the_environment() -> None:
    placement = placed(
        WITH_MASTER, nproc_per_node="4", nnodes="2", node_rank=1, rdzv_endpoint="[::1]:7"
    )
    assert (placement.num_processes, placement.max_nodes, placement.node_rank) == (4, 2, 1)
    assert (placement.host, placement.port) == ("::1", 7)
    assert "--rdzv-endpoint=[::1]:7" in command(placement)


def test_a_job_with_a_master() -> None:
    placement = placed(WITH_MASTER)
    assert (placement.num_processes, placement.max_nodes, placement.node_rank) == (2, 3, 2)
    assert (placement.host, placement.port) == ("j-master-0", 23456)
    assert "is_host=0" in conf(placement)
    master = placed({**WITH_MASTER, "RANK": "0", "PET_NODE_RANK": "0"})
    assert master.is_first
    assert "is_host=1" in conf(master)
    assert "--local-addr=j-master-0" in command(master)


def test_torchrun_numbers_machines_as_they_are_numbered_here() -> None:
    """By the order of their names, of which it knows only what it is told."""

    def own_name(rank: int) -> str:
        placement = placed({}, nnodes="200", node_rank=rank, rdzv_endpoint="zeta.example")
        (word,) = [word for word in command(placement) if word.startswith("--local-addr=")]
        return word

    names = [own_name(rank) for rank in range(200)]
    assert names == sorted(set(names))


def test_an_older_operator_sets_only_what_torch_reads() -> None:
    old = {name: WITH_MASTER[name] for name in ("MASTER_ADDR", "MASTER_PORT", "RANK")}
    placement = placed({**old, "WORLD_SIZE": "3"}, nproc_per_node="2")
    assert (placement.max_nodes, placement.node_rank, placement.port) == (3, 2, 23456)
    placement = placed({**old, "WORLD_SIZE": "6", "PET_NPROC_PER_NODE": "2"})
    assert (placement.num_processes, placement.max_nodes) == (2, 3)
    with pytest.raises(ConfigError, match="WORLD_SIZE=5"):
        placed({**old, "WORLD_SIZE": "5", "PET_NPROC_PER_NODE": "2"})


def test_an_elastic_job_names_no_rank_so_the_pod_name_does() -> None:
    placement = placed(ELASTIC, name="j-worker-2")
    assert (placement.min_nodes, placement.max_nodes, placement.node_rank) == (1, 3, 2)
    assert "--nnodes=1:3" in command(placement)
    assert "--rdzv-id=job-17" in command(placement)
    assert conf(placement) == {"read_timeout=90", "join_timeout=50", "is_host=0"}
    assert placed(ELASTIC, name="j-worker-0").is_first
    full = {**ELASTIC, "PET_RDZV_ENDPOINT": "j-worker-0.space.svc:29400"}
    assert placed(full, name="j-worker-0").is_first
    for stranger in ("k-worker-1", "box", "j-worker"):
        with pytest.raises(ConfigError, match="cannot tell") as error:
            placed(ELASTIC, name=stranger)
        assert "--node-rank" in error.value.hint


def test_workers_without_a_meeting_point() -> None:
    with pytest.raises(ConfigError, match="nowhere to meet") as error:
        placed(WORKERS_ONLY, name="j-worker-1")
    assert "--rdzv-endpoint" in error.value.hint
    placement = placed(WORKERS_ONLY, name="j-worker-1", rdzv_endpoint="j-worker-0:29400")
    assert (placement.max_nodes, placement.node_rank) == (2, 1)
    assert placement.run_id == "smoke"
    assert placed({**WORKERS_ONLY, "NAICS_JOB_NAME": "n"}, name="j-worker-1",
                  rdzv_endpoint="j-worker-0").run_id == "n"  # fmt: skip


def test_a_trainjob() -> None:
    placement = placed(TRAINER_V2, name="t-node-0-1")
    assert (placement.host, placement.port, placement.node_rank) == ("t-node-0-0.t", 29500, 1)


def test_one_machine_needs_no_meeting_point() -> None:
    alone = {**WITH_MASTER, "PET_NNODES": "1", "WORLD_SIZE": "2", "RANK": "0", "PET_NODE_RANK": "0"}
    placement = placed(alone)
    assert placement.alone
    assert placement.host == ""


@pytest.mark.parametrize(
    ("environ", "options", "message"),
    [
        ({}, {"nproc_per_node": "two"}, "--nproc-per-node=two"),
        ({}, {"nproc_per_node": "0"}, "--nproc-per-node=0"),
        ({"PET_NPROC_PER_NODE": "gpu"}, {}, "PET_NPROC_PER_NODE=gpu: no GPU"),
        ({"PET_NNODES": "3:2"}, {}, "PET_NNODES=3:2"),
        ({}, {"nnodes": "0"}, "--nnodes=0"),
        ({}, {"node_rank": 1}, "--node-rank=1 is no machine of 1"),
        (WITH_MASTER, {"node_rank": 3}, "--node-rank=3 is no machine of 3"),
        (WITH_MASTER, {"node_rank": -1}, "--node-rank=-1"),
        ({**WITH_MASTER, "PET_NODE_RANK": "x"}, {}, "PET_NODE_RANK=x"),
        (WITH_MASTER, {"rdzv_endpoint": "host:port"}, "--rdzv-endpoint=host:port"),
        (WITH_MASTER, {"rdzv_endpoint": "host:70000"}, "host:70000"),
        ({**ELASTIC, "PET_RDZV_BACKEND": "etcd"}, {}, "PET_RDZV_BACKEND=etcd"),
        ({**ELASTIC, "PET_RDZV_CONF": "read_timeout"}, {}, "PET_RDZV_CONF"),
        ({"TORCHELASTIC_RUN_ID": "r"}, {}, "started by torchrun"),
    ],
)
def test_contradictions(
    environ: dict[str, str], options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        placed({**environ, "PATH": str(tmp_path)}, name="j-worker-1", **options)
    assert error.value.hint


def test_auto_is_one_process_without_gpus(tmp_path: Path) -> None:
    auto = {"PET_NPROC_PER_NODE": "auto", "PATH": str(tmp_path)}
    assert placed(auto, "training.trainer.accelerator=auto").num_processes == 1
    assert placed({"PET_NPROC_PER_NODE": "cpu"}).num_processes == os.cpu_count()


def test_torchrun_sees_nothing_of_the_operator(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {**WITH_MASTER, **ELASTIC, "LOCAL_RANK": "1", "KEEP": "me"}.items():
        monkeypatch.setenv(name, value)
    found = torchrun_environment(here(load_config(None, "smoke", []).config, 1), tmp_path)
    assert not [name for name in found if name.startswith("PET_")]
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "LOCAL_RANK"} & set(found)
    assert found["KEEP"] == "me"
    assert found["NAICS_LAUNCH_DIR"] == str(tmp_path)
    assert without_places({"RANK": "1", "A": "b"}) == {"A": "b"}

"""Processors of the container, on machines with either kind of control groups."""

import os
from pathlib import Path

import pytest

from naics_job.errors import ConfigError
from naics_job.launch.cpus import num_cpus


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 96 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(96)), raising=False)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("400000 100000\n", 4), ("150000 100000\n", 2), ("20000 100000\n", 1), ("max 100000\n", 96)],
)
def test_the_quota_of_version_2(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert num_cpus({}, tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("400000\n", 4), ("150000\n", 2), ("-1\n", 96)])
def test_the_quota_of_version_1(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert num_cpus({}, tmp_path) == expected


def test_without_control_groups(tmp_path: Path) -> None:
    assert num_cpus({}, tmp_path) == 96


@pytest.mark.parametrize(("asked", "expected"), [("2", 2), ("0", 4), ("64", 4)])
def test_what_the_pod_asks_for_is_a_bound_too(tmp_path: Path, asked: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text("400000 100000")
    assert num_cpus({"NAICS_CPUS": asked}, tmp_path) == expected


def test_what_the_process_is_bound_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 7}, raising=False)
    assert num_cpus({}, tmp_path) == 2


def test_a_request_that_is_no_number(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NAICS_CPUS=250m is no whole number"):
        num_cpus({"NAICS_CPUS": "250m"}, tmp_path)

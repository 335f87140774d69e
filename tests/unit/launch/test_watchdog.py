"""A process is watched from its first beat until it rests or ends."""

import os
from pathlib import Path

import pytest

from naics_job.launch.watchdog import Watchdog
from naics_job.observability import heartbeat
from naics_job.observability.heartbeat import FOLDER_VARIABLE, Pulse, beat, rest


class Bench:
    """A watchdog of 10 s whose clock is turned by hand."""

    def __init__(self, folder: Path, timeout_s: float = 10.0) -> None:
        self.folder, self.now, self.beats = folder, 0.0, 0
        self.dog = Watchdog(folder, timeout_s, lambda: self.now)

    def beat(self, *names: str) -> None:
        for name in names:
            self.beats += 1
            path = self.folder / f"{name}.beat"
            path.touch()
            os.utime(path, ns=(self.beats, self.beats))

    def after(self, seconds: float) -> list[str]:
        """What is stalled so many seconds later; it looks every second until then."""
        found: list[str] = []
        for _ in range(int(seconds)):
            self.now += 1
            found = self.dog.stalled()
        return found


def test_who_never_beat_is_not_watched(tmp_path: Path) -> None:
    (tmp_path / "0.pid").write_text("1")
    assert Bench(tmp_path).after(99) == []


def test_one_that_is_late_is_found_beside_one_that_is_not(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.beat("0", "1")
    assert bench.after(10) == []
    bench.beat("0")
    assert bench.after(2) == ["1"]
    assert bench.after(10) == ["0", "1"]
    bench.beat("0", "1")
    assert bench.after(1) == []


def test_one_that_rests_or_has_ended_is_not_missed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.beat("0", "1")
    bench.after(5)
    (tmp_path / "0.beat").unlink()
    (tmp_path / "1.code").write_text("0")
    assert bench.after(20) == []
    bench.beat("0")
    assert bench.after(9) == []


def test_a_launcher_that_was_frozen_too_gives_everyone_new_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.beat("0")
    bench.after(3)
    bench.now += 500
    assert bench.after(1) == []
    assert bench.after(12) == ["0"]


def test_switched_off(tmp_path: Path) -> None:
    bench = Bench(tmp_path, timeout_s=0)
    bench.beat("0")
    assert bench.after(99) == []


@pytest.fixture
def heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(heartbeat, "_pulse", Pulse(float("-inf"), rests=True))
    return tmp_path / "2.beat"


def test_a_heart_beats_at_most_once_a_second(heart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now)
    beat()
    os.utime(heart, ns=(0, 0))
    now += 0.9
    beat()
    assert heart.stat().st_mtime_ns == 0
    now += 0.2
    beat()
    assert heart.stat().st_mtime_ns > 0
    rest()
    assert not heart.exists()
    beat()  # at once, however short the rest was
    assert heart.exists()


def test_without_a_launcher_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heart: Path
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE)
    beat()
    rest()
    assert list(tmp_path.iterdir()) == []

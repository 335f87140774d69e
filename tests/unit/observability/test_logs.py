"""Events on stderr and as JSON lines."""

import io
import json
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naics_job.errors import ConfigError
from naics_job.observability import logs

log = logging.getLogger("naics_job.data.census")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    root = logging.getLogger()
    level, package_level = root.level, logging.getLogger("naics_job").level
    yield
    logs.unbind_all()
    for handler in [h for h in root.handlers if getattr(h, "naics_job", False)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.getLogger("naics_job").setLevel(package_level)


def lines_of(path: Path) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def test_a_json_line_holds_event_fields_and_what_is_bound(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "run.jsonl"
    logs.setup_logging(json_path=str(path))
    logs.bind(run="20260102-030405-abcdef", step=7, phase="geometric")
    logs.event(log, logging.INFO, "data.prepared", rows=2125, source="census")
    logs.bind(step=8, phase=None)
    logs.event(log, logging.WARNING, "data.slow", seconds=1.5)
    first, second = lines_of(path)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "INFO",
        "logger": "naics_job.data.census",
        "event": "data.prepared",
        "rank": 0,
        "run": "20260102-030405-abcdef",
        "step": 7,
        "phase": "geometric",
        "rows": 2125,
        "source": "census",
    }
    assert second["step"] == 8
    assert "phase" not in second


def test_numbers_json_cannot_hold_and_odd_objects_become_text(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    logs.setup_logging(json_path=str(path))
    logs.event(
        log,
        logging.INFO,
        "train.loss",
        total=math.nan,
        terms={"radius": math.inf, 3: [-math.inf, np.float32(0.5), np.float64("nan")]},
        folder=tmp_path,
        count=np.int64(4),
    )
    (line,) = lines_of(path)
    assert line["total"] == "nan"
    assert line["terms"] == {"radius": "inf", "3": ["-inf", 0.5, "nan"]}
    assert line["folder"] == str(tmp_path)
    assert line["count"] == 4


def test_a_field_cannot_replace_the_header(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    logs.setup_logging(json_path=str(path))
    logs.event(log, logging.INFO, "curriculum.phase", level="six-digit", rank=3)
    (line,) = lines_of(path)
    assert (line["level"], line["rank"]) == ("INFO", 0)
    assert (line["field_level"], line["field_rank"]) == ("six-digit", 3)


def test_an_exception_keeps_its_traceback_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    logs.setup_logging(json_path=str(path))
    try:
        raise ValueError("broken\ncell")
    except ValueError:
        log.exception("data.failed")
    (line,) = lines_of(path)
    assert "ValueError: broken\ncell" in line["exception"]


def test_console_shows_event_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup_logging()
    logs.event(log, logging.INFO, "data.prepared", rows=5, loss=0.123456789, note="two words")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.rstrip().endswith('INFO data.prepared rows=5 loss=0.123457 note="two words"')
    assert "rank" not in err


def test_debug_needs_verbose_and_other_packages_need_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = logging.getLogger("some.package")
    for verbose in (False, True):
        logs.setup_logging(verbose=verbose)
        logs.event(log, logging.DEBUG, "detail")
        other.info("chatter")
        other.warning("trouble")
        err = capsys.readouterr().err
        assert ("detail" in err) is verbose
        assert "chatter" not in err
        assert err.count("trouble") == 1  # a second call replaces the handlers of the first


def test_ranks_do_not_share_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    logs.setup_logging(json_path=str(tmp_path / "run.jsonl"))
    logs.event(log, logging.INFO, "train.step")
    logs.event(log, logging.WARNING, "train.slow")
    assert [line["rank"] for line in lines_of(tmp_path / "run.rank3.jsonl")] == [3, 3]
    err = capsys.readouterr().err
    assert "train.step" not in err
    assert "[rank 3] train.slow" in err


def test_a_folder_that_cannot_be_written_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=str(tmp_path / "file")) as caught:
        logs.setup_logging(json_path=str(tmp_path / "file" / "run.jsonl"))
    assert "dirs.log_dir" in caught.value.hint
    with pytest.raises(ConfigError, match="not a local path"):
        logs.setup_logging(json_path="s3://bucket/run.jsonl")


def test_a_full_disk_is_told_once_and_does_not_stop_the_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    handler = logs.JsonLinesHandler("/dev/full")
    handler.setFormatter(logs.JsonFormatter(0))
    for _ in range(3):
        handler.handle(logging.makeLogRecord({"msg": "x"}))
    assert capsys.readouterr().err.count("being lost") == 1
    handler.naics_job = True  # type: ignore[attr-defined]
    logging.getLogger().addHandler(handler)
    logs.setup_logging()  # closing the broken file does not raise either
    assert handler not in logging.getLogger().handlers


def test_a_stream_that_was_replaced_is_written_to_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", first)
    logs.setup_logging()
    monkeypatch.setattr("sys.stderr", second)
    first.close()
    logs.event(log, logging.WARNING, "still.heard")
    assert "still.heard" in second.getvalue()
    assert "Logging error" not in second.getvalue()

"""`job check`: the store is tried, every process is asked, and what is wrong is named."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from counting_server import CountingServer
from typer.testing import CliRunner

from naics_job.cli.app import app
from naics_job.errors import ConfigError, NaicsJobError, TransientError
from naics_job.kube.check import check_ranks, check_store


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as running:
        yield running


def serve(server: CountingServer, *ranks: tuple[int, int]) -> list[str]:
    """Serve the metrics of processes, given as rank and world size; returns their URLs."""
    for number, (rank, world_size) in enumerate(ranks):
        labels = f'run="r",rank="{rank}",gpu="cpu"'
        text = f"# TYPE naics_world_size gauge\nnaics_world_size{{{labels}}} {world_size}.0\n"
        server.content[str(number)] = text.encode()
    return [f"{server.url}/{number}" for number in range(len(ranks))]


def test_all_have_joined(server: CountingServer) -> None:
    urls = serve(server, (1, 2), (0, 2))
    assert check_ranks(urls, 2, 0.0) == "2 processes answer, ranks 0 to 1, all in one run"


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        (((0, 2), (1, 1)), "rank 1 is in a world of 1, not 2"),
        (((0, 2), (0, 2)), r"ranks \[0, 0\], not 0 to 1"),
    ],
)
def test_processes_that_did_not_find_each_other(
    ranks: Any, message: str, server: CountingServer
) -> None:
    with pytest.raises(NaicsJobError, match=message):
        check_ranks(serve(server, *ranks), 2, 0.0)


def test_a_process_that_does_not_answer(server: CountingServer) -> None:
    urls = [*serve(server, (0, 2)), f"{server.url}/nothing"]
    with pytest.raises(TransientError, match="cannot be scraped"):
        check_ranks(urls, 2, 0.0)


def test_a_process_that_has_not_joined_yet(server: CountingServer) -> None:
    server.content["0"] = b"# TYPE python_info gauge\npython_info 1.0\n"
    with pytest.raises(TransientError, match="naics_world_size"):
        check_ranks([f"{server.url}/0"], 1, 0.0)


def test_it_looks_again_until_the_time_is_up(
    server: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        serve(server, (0, 1))

    monkeypatch.setattr("naics_job.kube.check.time.sleep", nap)
    assert check_ranks([f"{server.url}/0"], 1, 60.0).startswith("1 processes")
    assert len([each for each in naps if each]) == 1


def test_too_few_addresses(server: CountingServer) -> None:
    with pytest.raises(ConfigError, match="1 addresses of metrics for 2"):
        check_ranks(serve(server, (0, 2)), 2, 0.0)


def test_a_folder_is_left_as_it_was(tmp_path: Path) -> None:
    assert "written, read, deleted" in check_store(str(tmp_path / "checkpoints"))
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_store_that_cannot_be_written_fails_the_command(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    words = ["job", "check", f"dirs.checkpoint_dir={tmp_path}/file/below"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 65, result.output
    assert "file" in result.stderr


def test_the_command_as_the_chart_calls_it(tmp_path: Path, server: CountingServer) -> None:
    (tmp_path / "config.yaml").write_text(f"dirs: {{checkpoint_dir: {tmp_path}/c}}\n")
    urls = serve(server, (0, 2), (1, 2))
    words = ["job", "check", "--config", str(tmp_path / "config.yaml"), "--ranks", "2"]
    for url in urls:
        words += ["--metrics", url]
    result = CliRunner().invoke(app, [*words, "seed=3"])
    assert result.exit_code == 0, result.output
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["store", "metrics"]

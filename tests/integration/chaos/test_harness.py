"""What the campaigns rely on: nothing survives, every wait ends, and a difference is seen."""

import signal
from pathlib import Path

import pytest
import torch
from campaigns.counts import Counts
from campaigns.processes import MARK, Processes, Started, StuckError
from campaigns.scene import Scene, digest_of, trace_of
from campaigns.sigkill import Life, _check_start
from campaigns.undisturbed import Reference, compare
from fault_proxy import FaultProxy

from naics_job.checkpoint.manifest import CheckpointFacts
from naics_job.checkpoint.store import RunStore

pytestmark = pytest.mark.integration
TREE = """
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)  # its child has no parent in the tree any more
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "scene", tmp_path / "encoder")


def test_a_killed_tree_is_gone_with_its_orphans(scene: Scene) -> None:
    with Processes(real=True) as processes:
        run = processes.start(scene.command(), ("-c", TREE))
        run.until(lambda: run.text.count("up") == 2, 60, "both")
        assert len(run.tree()) == 3
        run.kill()
        assert run.tree() == set()
        assert run.code() == -signal.SIGKILL


def test_what_is_left_at_the_end_is_killed(scene: Scene) -> None:
    with Processes(real=True) as processes:
        run = processes.start(scene.command(), ("-c", TREE))
        run.until(lambda: "up" in run.text, 60, "the start")
    assert run.tree() == set()


def test_a_wait_ends_with_the_tail_of_the_log(scene: Scene) -> None:
    with Processes(real=True) as processes:
        run = processes.start(scene.command(), ("-c", "print('last words', flush=True); input()"))
        assert run.wait(60) == 1  # no standard input
        run = processes.start(scene.command(), ("-c", TREE))
        with pytest.raises(StuckError, match=r"(?s)waited 2 s.*up"):
            run.wait(2)
        assert run.tree() == set()


def test_a_child_sees_its_own_environment_only(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "AWS_PROFILE", "PET_NNODES"):
        monkeypatch.setenv(name, "9")
    seen = scene.command().variables("mark")
    assert seen[MARK] == "mark"
    assert not {"RANK", "WORLD_SIZE", "AWS_PROFILE", "PET_NNODES"} & seen.keys()
    assert seen["TMPDIR"].startswith(str(scene.folder))


def save(scene: Scene, facts: CheckpointFacts, value: float) -> Path:
    local = scene.folder / "state.ckpt"
    torch.save({"state_dict": {"w": torch.full((3,), value)}}, local)
    RunStore(scene.root, "run-a", 2).save(local, facts)
    return local


def log_steps(scene: Scene, text: str) -> None:
    folder = scene.folder / "logs/smoke/run-a"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(text)


ROWS = '{"step": 0, "train/total": 3.0}\n{"step": 1, "tr{"step": 1, "train/total": 2.0}\n'


def test_half_a_line_of_a_killed_run_is_passed_over(scene: Scene) -> None:
    log_steps(scene, ROWS + '{"step": 2, "train/to')
    assert scene.steps() == [(0, 3.0), (1, 2.0)]
    with pytest.raises(AssertionError, match="step 0"):
        trace_of([*scene.steps(), (0, 2.5)])


@pytest.mark.parametrize(
    ("loss", "weight", "missed"),
    [
        (2.0, 1.0, {}),
        (2.5, 1.0, {"runs with another loss": 1}),
        (2.0, 1.5, {"runs with other weights": 1}),
    ],
)
def test_a_difference_is_counted(
    scene: Scene, facts: object, loss: float, weight: float, missed: dict[str, int]
) -> None:
    log_steps(scene, ROWS)
    digest = digest_of(save(scene, facts(2), 1.0))  # type: ignore[operator]
    if weight != 1.0:
        save(scene, facts(3), weight)  # type: ignore[operator]
    counts = Counts("test")
    compare(counts, scene, Reference({0: 3.0, 1: loss}, digest, 1.0), 0)
    assert dict(counts.values) == {"runs finished": 1, **missed}
    assert len(counts.missed()) == len(missed)


def started(folder: Path, text: str, code: int | None) -> Started:
    log = folder / "run.log"
    log.write_text(text)
    return Started(0, log, lambda: code, "mark")


RESUME = "10:00:00 INFO checkpoint.resume run=run-a step={}\n"
BEGAN = "10:00:01 INFO curriculum.phase phase=1 step=0\n"


@pytest.mark.parametrize(
    ("text", "code", "wrong"),
    [
        (RESUME.format(10) + BEGAN, 0, None),
        (BEGAN, -9, "silent restarts at step 0"),
        (RESUME.format(5) + BEGAN, -9, "steps behind the newest checkpoint"),
        ("10:00:00 WARNING checkpoint.skipped reason=cut\n", None, "corrupt loads"),
        ("error: damaged\n", 74, "corrupt loads"),
        ("error: what\n", 70, "starts that failed"),
    ],
)
def test_the_log_of_a_start_is_judged(
    scene: Scene, text: str, code: int | None, wrong: str | None
) -> None:
    counts = Counts("test", goals={wrong: 0} if wrong else {})
    _check_start(Life(scene, expected=10), started(scene.folder, text, code), counts)
    assert bool(counts.missed()) == (wrong is not None)
    assert [name for name, value in counts.values.items() if value] == [wrong] * bool(wrong)


def test_counts_write_what_they_print(tmp_path: Path) -> None:
    counts = Counts("some", "by hand", goals={"lost": 0}, limits={"slowest, s": 1.5})
    counts.add("lost", 2)
    counts.at_least("slowest, s", 1.0)
    assert counts.missed() == ["lost is 2, must be 0"]
    assert "lost" in counts.table()
    assert '"missed"' in counts.write(tmp_path).read_text()


def test_the_proxy_holds_an_upload_half_way() -> None:
    import socket
    import threading

    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        FaultProxy(server.getsockname()[1]) as proxy,
    ):
        proxy.pause = lambda line: 30.0 if line.endswith(".ckpt") else 0.0
        port = int(proxy.endpoint.rpartition(":")[2])
        body = b"x" * 20_000_000  # more than the kernel keeps for a reader that waits
        sent = []

        def upload() -> None:
            with socket.create_connection(("127.0.0.1", port)) as client:
                head = f"PUT /b/state.ckpt HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body)
                sent.append(True)

        thread = threading.Thread(target=upload, daemon=True)
        thread.start()
        while not proxy.paused:
            pass
        assert proxy.paused == ["PUT /b/state.ckpt"]
        thread.join(0.5)
        assert not sent  # the client is held amid the body
        proxy.released.set()
        upstream, _ = server.accept()
        with upstream:
            received = 0
            while received < len(body):
                received += len(upstream.recv(1 << 20))
        thread.join(10)
        assert sent

"""A container under the restrictions of a cluster: its rights, its processes, a run in it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers import RESTRICTED, Container

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3000)]
COMMAND = ("launch", "--nproc-per-node", "1", "--", "train", "--config", "/etc/naics/config.yaml")
WRITABLE = """
import json, os, tempfile
def tries(folder):
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
places = "/ /etc /home /opt/venv /root /run /tmp /usr /var/tmp /scratch".split()
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(), "writable": [p for p in places if tries(p)],
    "capabilities": int(status["CapEff"], 16), "no_new": status["NoNewPrivs"].strip(),
    "temporary": tempfile.gettempdir(), "home": os.path.expanduser("~"),
}))
"""
HEALTH = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[1]) if self.path == "/healthz" else 404)
        self.end_headers()
server = None if sys.argv[1] == "None" else http.server.HTTPServer(("", 9400), Handler)
print("ready", flush=True)
server.serve_forever() if server else time.sleep(600)
"""
STATS = """
import glob, json, time
time.sleep(1)
print(json.dumps([open(path).read() for path in glob.glob("/proc/[0-9]*/stat")]))
"""
Make = Callable[[str], Container]


@pytest.fixture
def make(engine: Any, tmp_path: Path) -> Iterator[Make]:
    """A container of that name, not started yet; removed after the test."""
    made: list[Container] = []

    def named(name: str) -> Container:
        made.append(Container(engine, name, tmp_path / name))
        return made[-1]

    yield named
    for container in made:
        container.remove()


@pytest.fixture
def config_file(store: Any, tmp_path: Path) -> Path:
    """Settings as the chart's ConfigMap brings them, for a run that is not soon over."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(store.settings(**{"training.trainer.max_epochs": 20})))
    return path


def test_any_user_writes_to_scratch_only(engine: Any, image: str, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    scratch.chmod(0o777)
    command = ("podman", "run", "--rm", *RESTRICTED, "--volume", f"{scratch}:/scratch")
    found = json.loads(engine.run(*command, "--entrypoint", "python", image, "-c", WRITABLE))
    assert found == {
        **{"uid": 4242, "gid": 0, "writable": ["/scratch"], "capabilities": 0, "no_new": "1"},
        **{"temporary": "/scratch", "home": "/scratch"},
    }


def test_settings_are_shown_without_anything_around_it(engine: Any, image: str) -> None:
    command = ("podman", "run", "--rm", *RESTRICTED, "--tmpfs", "/scratch:mode=1777", image)
    shown = engine.run(*command, "tools", "config", "--profile", "smoke", "--format", "yaml")
    assert yaml.safe_load(shown)["experiment_name"] == "smoke"


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
def test_the_health_check(
    engine: Any, image: str, make: Make, status: int | None, healthy: bool
) -> None:
    container = make("naics-health")
    container.start(image, ["-c", HEALTH, str(status)], ["--entrypoint", "python"])
    container.wait_for("ready")
    _, *check = engine.inspect(image)["Healthcheck"]["Test"]
    told = container.run_inside("sh", "-c", '"$@" && echo healthy || echo sick', "sh", *check)
    assert told.strip() == ("healthy" if healthy else "sick")


def test_a_run_on_s3_is_stopped_and_goes_on(
    image: str, network: Any, store: Any, make: Make, config_file: Path
) -> None:
    options = ["--network", network.name, "--volume", f"{config_file}:/etc/naics/config.yaml:ro"]
    options += ["--env", "OMP_NUM_THREADS=1", *store.options]
    command = [*COMMAND, "--ckpt-path", "auto"]
    first = make("naics-alone")
    first.start(image, command, options)
    first.wait_for_steps()
    check_processes(first)
    first.terminate()
    assert first.finish() == 143, first.output
    stopped = json.loads(store.read("output/smoke/run_record.json"))
    assert stopped["exit_code"] == 143
    first.remove()

    again = make("naics-alone")
    again.start(image, command, options)
    assert again.finish() == 0, again.output
    record = json.loads(store.read("output/smoke/run_record.json"))
    assert (record["status"], record["restarts"], record["lost_steps"]) == ("finished", 1, 0)
    assert record["run_id"] == stopped["run_id"]
    assert record["steps"] > stopped["steps"]
    assert "output/smoke/embeddings.parquet" in store.keys("output/")


def check_processes(container: Container) -> None:
    """tini is the first process, the launcher its only child, and an orphan does not stay."""
    container.run_inside("sh", "-c", "(sleep 0.2 &)")
    processes = {}
    for row in json.loads(container.run_inside("python", "-c", STATS)):
        pid, rest = row.split(" (", 1)
        name, _, fields = rest.rpartition(") ")
        state, parent, *_ = fields.split()
        processes[int(pid)] = (name, state, int(parent))
    assert processes[1][0] == "tini"
    assert not [row for row in processes.values() if row[1] == "Z"]
    assert [name for name, _, parent in processes.values() if parent == 1] == ["naics-embedder"]

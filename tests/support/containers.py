"""Build the image by `make image`, and run containers by podman and runc as a cluster would.

Works as root on a machine without a registry, without systemd and without cgroup v2.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("make", "buildah", "podman", "runc")
DNS = ("/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns")
BASE = "localhost/naics-base:bookworm"  # tests/support/debian_base.sh makes it
POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'
CONF = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
# What the restricted Pod Security profile and the chart ask for. No entry in /etc/passwd, as in a
# cluster; podman's own health check would need systemd.
RESTRICTED = (
    *("--user", "4242:0", "--passwd=false", "--cap-drop", "all"),
    *("--security-opt", "no-new-privileges", "--read-only", "--read-only-tmpfs=false"),
    *("--no-healthcheck", "--stop-timeout", "60", "--pids-limit", "1024"),
)
PATIENCE_S = 900  # these tests may share their machine


def missing() -> str:
    """What keeps this machine from building and running images; empty when nothing does."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    if not any(Path(path).exists() for path in DNS):
        return "not installed: netavark and aardvark-dns"
    return "" if os.geteuid() == 0 else "needs root"


@dataclass(frozen=True)
class Engine:
    """podman and buildah with settings of their own in `folder`."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def in_folder(cls, folder: Path) -> "Engine":
        """Write the settings."""
        (folder / "policy.json").write_text(POLICY)
        (folder / "containers.conf").write_text(CONF)
        settings = {"CONTAINERS_CONF": str(folder / "containers.conf")}
        return cls(folder, {**os.environ, **settings})

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command to its end and return what it printed."""
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def has(self, image: str) -> bool:
        """Whether an image is in the local store."""
        return bool(self.run("buildah", "images", "--quiet", image, check=False))

    def inspect(self, name: str) -> dict[str, Any]:
        """What podman knows of a container or an image."""
        (found,) = json.loads(self.run("podman", "inspect", name))
        return dict(found)

    def build(self, base: str, tag: str, context: Path = ROOT, **variables: str) -> str:
        """Build the image without CUDA in `context` and return its name."""
        policy = f"--signature-policy {self.folder / 'policy.json'}"
        given = {
            **{"ENGINE": "buildah", "FLAVOR": "cpu", "IMAGE": "localhost/naics-train", "TAG": tag},
            **{"BASE_IMAGE": base, "BUILD_OPTIONS": f"--isolation chroot --pull=never {policy}"},
            **_sources(),
            **variables,
        }
        pairs = [f"{name}={value}" for name, value in given.items()]
        self.run("make", "--directory", str(context), "image", *pairs)
        return f"localhost/naics-train:{tag}"


def _sources() -> dict[str, str]:
    """Where the build gets wheels and certificates from, as pip on this machine is told."""
    wheels, certificates = os.environ.get("PIP_FIND_LINKS"), os.environ.get("PIP_CERT")
    found = {"CA": certificates} if certificates else {}
    if wheels and list(Path(wheels).glob("torch-*.whl")):
        found |= {"WHEELS": wheels, "TORCH_INDEX_URL": ""}
    return found


@dataclass(frozen=True)
class Container:
    """A container of the image; its /scratch is a folder of this machine, new with each."""

    engine: Engine
    name: str
    scratch: Path

    def start(self, image: str, arguments: Sequence[str], options: Sequence[str] = ()) -> None:
        """Start it in the background."""
        shutil.rmtree(self.scratch, ignore_errors=True)  # an emptyDir goes with its pod
        self.scratch.mkdir(parents=True)
        self.scratch.chmod(0o777)
        self.engine.run(
            *("podman", "run", "--detach", "--name", self.name, "--hostname", self.name),
            *(*RESTRICTED, "--volume", f"{self.scratch}:/scratch", *options, image, *arguments),
        )

    @property
    def state(self) -> dict[str, Any]:
        """Status, Pid, ExitCode and so on."""
        return dict(self.engine.inspect(self.name)["State"])

    @property
    def output(self) -> str:
        """What it wrote to both streams."""
        return self.engine.run("sh", "-c", 'podman logs "$0" 2>&1', self.name, check=False)

    def run_inside(self, *command: str) -> str:
        """What a command beside the others in it prints."""
        return self.engine.run("podman", "exec", self.name, *command)

    def wait_for(self, text: str) -> None:
        """Return after it has written `text`."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in (output := self.output):
            assert time.monotonic() < deadline, output
            assert self.state["Status"] == "running", output
            time.sleep(0.2)

    def wait_for_steps(self) -> None:
        """Return after a training step."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            logs = list(self.scratch.glob("logs/*/*/metrics.jsonl"))
            if logs and "train/total" in logs[0].read_text():
                return
            assert self.state["Status"] == "running", self.output
            time.sleep(0.5)
        raise AssertionError(f"no step was taken: {self.output}")

    def finish(self) -> int:
        """Exit code, after it has ended."""
        deadline = time.monotonic() + PATIENCE_S
        while (state := self.state)["Status"] == "running":
            assert time.monotonic() < deadline, self.output
            time.sleep(0.5)
        return int(state["ExitCode"])

    def terminate(self) -> None:
        """Ask it to stop as the kubelet does: the image's stop signal to its first process."""
        signal = self.engine.inspect(self.name)["Config"]["StopSignal"]
        self.engine.run("podman", "kill", "--signal", str(signal), self.name)

    def remove(self) -> None:
        """End and forget it."""
        self.engine.run("podman", "rm", "--force", "--ignore", "--time", "0", self.name)

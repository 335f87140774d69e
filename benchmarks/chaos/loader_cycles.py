"""Start and stop loader workers again and again, gently and not, and count what is left behind.

Run: python benchmarks/chaos/loader_cycles.py [--cycles 200] [--workers 4]
Prints one line of JSON: cycles of each kind, hangs, and leftovers of processes, of names in
/dev/shm and of files in the folder for temporary files. Exits with 1 unless all of them are 0.

A cycle starts the workers and stops them in one of these ways:
whole    an epoch is read to its end
dropped  the iterator and the loader are dropped after a few batches
error    an exception leaves the loop over the batches
kept     a second epoch on the same workers, dropped in its middle
SIGTERM, SIGKILL   the training process is ended after a few batches
"""

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

GENTLE = ("whole", "dropped", "error", "kept")
SIGNALS = ("SIGTERM", "SIGKILL")
GENTLE_PER_HOST = 32  # in one process after the other; each signal costs a process of its own
LIMIT_S = 300.0  # a cycle that takes longer hangs; an idle machine needs 1 to 10 s
SETTLE_S = 15.0  # what is still there after this is left over
SHARED_MEMORY = Path("/dev/shm")
LEFTOVERS = ("processes", "shared_memory", "files")
MARK = "NAICS_LOADER_CYCLES"


def plan(cycles: int) -> list[tuple[str, ...]]:
    """What each process does: many gentle cycles, then one of each signal, and so on."""
    hosts: list[tuple[str, ...]] = []
    while (left := cycles - sum(map(len, hosts))) > 0:
        gentle = (GENTLE * GENTLE_PER_HOST)[: min(GENTLE_PER_HOST, max(1, left - len(SIGNALS)))]
        hosts += [gentle, *((name,) for name in SIGNALS)][: max(1, left)]
    return hosts


class Campaign:
    """Runs hosts and counts; `folder` is their TMPDIR."""

    def __init__(self, workers: int, folder: Path) -> None:
        self.workers, self.folder, self.mark = workers, folder, f"{os.getpid()}-{time.time_ns()}"
        self.done: Counter[str] = Counter()
        self.hangs = 0
        self.left: Counter[str] = Counter()

    def counts(self) -> dict[str, int]:
        """Cycles of each kind, hangs and leftovers so far."""
        left = {f"leftover_{name}": self.left[name] for name in LEFTOVERS}
        total = {"workers": self.workers, "cycles": self.done.total()}
        return {**total, **self.done, "hangs": self.hangs, **left}

    def run(self, host: tuple[str, ...]) -> None:
        """Run the cycles of one process, and count what it leaves behind."""
        names: set[str] = set()
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.folder)}
        command = [sys.executable, __file__, "--host", ",".join(host), "--workers"]
        process = subprocess.Popen(
            [*command, str(self.workers)], env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        for kind in host:
            told = self._told(process)
            if told is None:
                self.hangs += 1
                break
            names |= set(told["names"])
            self.done[kind] += 1
            if kind in SIGNALS:
                process.send_signal(getattr(signal, kind))
            else:
                self.left["processes"] += self._survivors(set(told["workers"]))
                process.stdin.write(b"\n")
                process.stdin.flush()
        self._end(process)
        self.left["shared_memory"] += self._settled(lambda: names & set(os.listdir(SHARED_MEMORY)))
        self.left["files"] += self._settled(self._files)

    def _told(self, process: "subprocess.Popen[bytes]") -> dict[str, Any] | None:
        """What a host says of a cycle once it is where it should be, None when it hangs or fails.

        `workers`: their pids; `names`: what it uses of /dev/shm, where other programs have theirs.
        """
        assert process.stdout is not None
        deadline, line, out = time.monotonic() + LIMIT_S, b"", process.stdout.fileno()
        while not line.endswith(b"\n"):
            if not select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            piece = os.read(out, 4096)
            if not piece:
                return None
            line += piece
        told: dict[str, Any] = json.loads(line)
        return told

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.hangs += 1
            process.kill()
        self.left["processes"] += self._settled(self._marked)
        for pid in self._marked():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _marked(self) -> set[int]:
        """Processes that descend from a host: they carry its environment."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found.add(int(folder.name))
            except OSError:
                continue  # it ended meanwhile, or it is somebody else's
        return found

    def _files(self) -> set[Path]:
        """Temporary files that are left; importing torch makes the folder of a cache."""
        return {path for path in self.folder.iterdir() if not path.name.startswith("torchinductor")}

    def _survivors(self, pids: set[int]) -> int:
        return self._settled(lambda: pids & self._marked())

    def _settled(self, left: Callable[[], set[Any]]) -> int:
        """How much of what `left` finds is still there after a while; processes may need it."""
        deadline = time.monotonic() + SETTLE_S
        while left() and time.monotonic() < deadline:
            time.sleep(0.02)
        return len(left())


def host(kinds: list[str], workers: int) -> None:
    """In a process of its own: do the cycles, write the pids of each one's workers, wait."""
    import numpy as np

    from naics_job.config.load import load_config
    from naics_job.data.datamodule import NaicsDataModule
    from naics_job.data.prepare import NaicsData
    from naics_job.data.triplets import positive_table
    from naics_job.taxonomy.codes import bundled_titles
    from naics_job.taxonomy.tree import Taxonomy

    warnings.filterwarnings("ignore", ".*suggested max number of worker")
    rows = [row for row in bundled_titles() if row[0].startswith("21")]
    taxonomy = Taxonomy.from_codes(*zip(*rows, strict=True))
    none = np.zeros(len(taxonomy) + 1, dtype=np.int64), np.empty(0, dtype=np.int64)
    data = NaicsData(taxonomy, {}, none, positive_table(taxonomy), "bundled", "0" * 64)
    config = load_config(None, "smoke", [f"data_loader.num_workers={workers}"]).config
    for kind in kinds:
        module = NaicsDataModule(data, config, global_batch_size=4)
        cycle(kind, module.train_dataloader())
        sys.stdin.readline()


def cycle(kind: str, loader: Any) -> None:
    """Read batches as `kind` says; the loader is gone when this returns, save before a signal."""
    batches = iter(loader)
    pids = [worker.pid for worker in loader._iterator._workers]
    names = shared_names()
    if kind == "whole":
        assert len(list(batches)) == len(loader)
    else:
        assert len(list(islice(batches, 3))) == 3
    if kind == "kept":
        batches = iter(loader)
        assert len(list(islice(batches, 2))) == 2
    if kind == "error":
        try:
            for _ in batches:
                raise ValueError
        except ValueError:
            pass
    if kind not in SIGNALS:
        del batches, loader
    print(json.dumps({"workers": pids, "names": sorted(names)}), flush=True)
    if kind in SIGNALS:
        time.sleep(2 * LIMIT_S)  # with the workers at work


def shared_names() -> set[str]:
    """Names in /dev/shm that this process has mapped."""
    words = Path("/proc/self/maps").read_text().split()
    return {Path(word).name for word in words if word.startswith(f"{SHARED_MEMORY}/")}


def main() -> int:
    """Run the cycles and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--host", help="used by itself: the cycles of one process")
    options = parser.parse_args()
    if options.host:
        host(options.host.split(","), options.workers)
        return 0
    with tempfile.TemporaryDirectory(prefix="loader-cycles-") as folder:
        campaign = Campaign(options.workers, Path(folder))
        for each in plan(options.cycles):
            campaign.run(each)
            print(json.dumps(campaign.counts()), file=sys.stderr, flush=True)  # as far as it is
    counts = campaign.counts()
    print(json.dumps(counts))
    bad = any(counts[name] for name in counts if name.startswith(("hangs", "leftover")))
    return 0 if counts["cycles"] == options.cycles and not bad else 1


if __name__ == "__main__":
    sys.exit(main())

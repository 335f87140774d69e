"""What the exporter costs training: steps with and without it, in one run, scraped once a second.

Run: python benchmarks/exporter_overhead.py [--steps N] [--block N] [--threads N]
The quickstart's steps on cached features, the shortest there are, hence the worst case. Blocks of
steps alternate: in one the exporter's callback and logger work and a scraper asks for the metrics
as fast as every second, in the other they are switched off. A difference of a thousandth drowns in
the noise of a shared machine, so what the exporter does is also timed where it is done.

step_ratio      median step with / without, wall time from batch end to batch end; step_cpu_ratio is
                the same in CPU time of the training thread, which other jobs disturb less.
hook_share      CPU time inside the callback and the logger / that of the steps with them.
scrape_share    CPU time of one scrape / 15 s, the usual interval.
scrape_ms       wall time of a scrape as the scraper sees it while training runs: median and worst.

Prints one line of JSON.
"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from naics_job.config.load import LoadedConfig, load_config
from naics_job.observability.exposition import ReadingsCollector
from naics_job.training.callbacks.exporter import ExporterCallback
from naics_job.training.exported import ReadingsLogger
from naics_job.training.run import RunOptions, run_training
from naics_job.training.telemetry import Telemetry

SCRAPE_EVERY_S = 1.0
HOOKS = ((ExporterCallback, "on_train_batch_end"), (ReadingsLogger, "log_metrics"))


@dataclass
class Measured:
    """What is collected while the run goes on."""

    block: int
    on: bool = True
    url: str = ""
    num_steps: int = 0
    last_end: tuple[float, float] | None = None  # wall, CPU
    steps: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    cpu_steps: dict[bool, list[float]] = field(default_factory=lambda: {True: [], False: []})
    hook_s: float = 0.0
    scrapes: list[float] = field(default_factory=list)
    scrape_cpu_s: list[float] = field(default_factory=list)
    num_bytes: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def step_ended(self) -> None:
        """Count a step for the side that is on; the first of a block belongs to neither."""
        now = time.perf_counter(), time.thread_time()
        if self.last_end is not None and self.num_steps % self.block:
            self.steps[self.on].append(now[0] - self.last_end[0])
            self.cpu_steps[self.on].append(now[1] - self.last_end[1])
        self.last_end = now
        self.num_steps += 1
        self.on = self.num_steps // self.block % 2 == 0


def settings(folder: Path, steps: int) -> LoadedConfig:
    """The quickstart without the steps that train adapters."""
    dirs = [f"dirs.{name}_dir={folder / name}" for name in ("data", "log", "output", "checkpoint")]
    return load_config(
        None,
        "quickstart",
        [
            *dirs,
            *("curriculum.phase_mode=two_phase", f"training.trainer.max_steps={steps}"),
            *("training.trainer.max_epochs=-1", "training.trainer.enable_progress_bar=false"),
            *("model.eval_every_n_epochs=1000", "checkpoint.max_lost_steps=200000"),
            *("metrics.port=0", "metrics.linger_s=0"),
        ],
    )


def timed(measured: Measured, original: Callable[..., Any]) -> Callable[..., Any]:
    """`original`, timed while it is on and left out while it is off."""

    def run(*arguments: Any, **named: Any) -> Any:
        if not measured.on:
            return None
        began = time.thread_time()
        result = original(*arguments, **named)
        measured.hook_s += time.thread_time() - began
        return result

    return run


def install(measured: Measured) -> None:
    """Time the hooks, the end of each step and the CPU time of each scrape."""
    for owner, name in HOOKS:
        setattr(owner, name, timed(measured, getattr(owner, name)))
    hook = ExporterCallback.on_train_batch_end

    def batch_end(self: ExporterCallback, *arguments: Any, **named: Any) -> None:
        hook(self, *arguments, **named)
        measured.step_ended()

    ExporterCallback.on_train_batch_end = batch_end  # type: ignore[method-assign]
    begin, collect = Telemetry.begin, ReadingsCollector.collect

    def begun(self: Telemetry, *arguments: Any) -> None:
        begin(self, *arguments)
        measured.url = self.exporter.url

    def collected(self: ReadingsCollector) -> Any:
        began = time.thread_time()
        yield from collect(self)
        measured.scrape_cpu_s.append(time.thread_time() - began)

    Telemetry.begin = begun  # type: ignore[method-assign]
    ReadingsCollector.collect = collected  # type: ignore[method-assign]


def scrape(measured: Measured) -> None:
    """Ask once a second while the exporter is on and the run trains."""
    while not measured.over.wait(SCRAPE_EVERY_S):
        if not (measured.url and measured.on and measured.num_steps):
            continue
        began = time.perf_counter()
        try:
            with urllib.request.urlopen(f"{measured.url}/metrics", timeout=10) as answer:
                measured.num_bytes = len(answer.read())
        except OSError:  # the run has ended
            return
        measured.scrapes.append(time.perf_counter() - began)


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--block", type=int, default=20)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measured = Measured(options.block)
    install(measured)
    scraper = threading.Thread(target=scrape, args=(measured,))
    with tempfile.TemporaryDirectory() as folder:
        scraper.start()
        try:
            run_training(settings(Path(folder), options.steps), RunOptions())
        finally:
            measured.over.set()
            scraper.join()
    wall = {on: statistics.median(seconds) for on, seconds in measured.steps.items()}
    busy = {on: statistics.median(seconds) for on, seconds in measured.cpu_steps.items()}
    hook_s = measured.hook_s / (measured.num_steps / 2)
    cpu_s = statistics.median(measured.scrape_cpu_s)
    result = {
        "threads": options.threads,
        "steps": options.steps,
        "step_ms": round(1000 * wall[False], 2),
        "step_cpu_ms": round(1000 * busy[False], 2),
        "step_ratio": round(wall[True] / wall[False], 4),
        "step_cpu_ratio": round(busy[True] / busy[False], 4),
        "hook_us": round(1e6 * hook_s, 1),
        "hook_share": round(hook_s / busy[True], 5),
        "scrape_cpu_ms": round(1000 * cpu_s, 2),
        "scrape_share": round(cpu_s / 15, 6),
        "scrapes": len(measured.scrapes),
        "scrape_ms": [
            round(1000 * value, 1)
            for value in (statistics.median(measured.scrapes), max(measured.scrapes))
        ],
        "scrape_bytes": measured.num_bytes,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

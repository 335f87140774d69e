"""How long after a training run hangs NaicsTrainingStalled fires, by the clock on the wall.

Run: python benchmarks/alert_latency.py [--runs N] [--steps N]
The quickstart's training in a process of its own, scraped and judged by a real Prometheus with the
rules of the chart, every 15 s each as Prometheus does unless told otherwise. After N steps the
training thread stops for good, as in a collective that a lost rank never joins; the exporter's
thread goes on answering. Needs `prometheus` on PATH. Takes three minutes a run.

Prints one line of JSON for each run: the seconds from the hang to the firing alert (goal: 120), and
the alerts that fired. Before the hang none may.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from dashboards.prometheus import Api, free_port, serve
from naics_job.config.load import load_config
from naics_job.training.module import NaicsModule
from naics_job.training.run import RunOptions, run_training

ALERT = "NaicsTrainingStalled"
SCRAPE_S, PATIENCE_S = 15.0, 300.0


def train_and_hang(folder: Path, port: int, steps: int, hung: Event) -> None:
    """Train `steps` steps, then do nothing for ever in the middle of one."""
    step = NaicsModule.training_step

    def training_step(self: NaicsModule, *arguments: Any) -> Any:
        if self.global_step >= steps:
            hung.set()
            while True:
                time.sleep(60)
        return step(self, *arguments)

    NaicsModule.training_step = training_step  # type: ignore[method-assign]
    dirs = [f"dirs.{name}_dir={folder / name}" for name in ("data", "log", "output", "checkpoint")]
    more = [f"metrics.port={port}", "training.trainer.enable_progress_bar=false"]
    run_training(load_config(None, "quickstart", [*dirs, *more]), RunOptions())


def firing(api: Api) -> list[str]:
    """Names of the alerts that fire now."""
    alerts = api.get("alerts")["alerts"]
    return sorted(alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing")


def measured(steps: int) -> dict[str, Any]:
    """One run that hangs."""
    spawn = multiprocessing.get_context("spawn")
    hung, port = spawn.Event(), free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = (folder / "run", port, steps, hung)
        process = spawn.Process(target=train_and_hang, args=arguments)
        with serve(folder, [port], SCRAPE_S) as api:
            process.start()
            try:
                early = set[str]()
                while not hung.wait(1):
                    early.update(firing(api))
                began = time.monotonic()
                while ALERT not in (found := firing(api)):
                    if time.monotonic() - began > PATIENCE_S:
                        raise SystemExit(f"{ALERT} did not fire within {PATIENCE_S:g} s")
                    time.sleep(0.5)
                latency = time.monotonic() - began
            finally:
                process.kill()
                process.join()
    return {"latency_s": round(latency, 1), "firing": found, "before": sorted(early)}


def main() -> None:
    """Let runs hang, print how long it took to be told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    for _ in range(options.runs):
        print(json.dumps(measured(options.steps)), flush=True)


if __name__ == "__main__":
    main()

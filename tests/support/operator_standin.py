"""A stand-in for the Kubeflow training operator v1.9.4. It is not the operator.

It does for containers what that operator's source says it does for the pods of a PyTorchJob with
Workers only, without elasticPolicy, with restartPolicy ExitCode: names, environment, and what
follows from an exit code. Nothing here talks to Kubernetes.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from containers import PATIENCE_S, Container, Engine

RETRYABLE = 128  # from here on a failed pod is deleted and made again under its name


@dataclass
class OperatorStandIn:
    """One job of `num_workers` workers, each a container named and called `<job>-worker-<i>`.

    Attributes:
        endings: exit codes of each worker so far, the newest last.
        failed: whether a worker ended with a code that is final; nothing is restarted then.
    """

    engine: Engine
    job: str
    image: str
    folder: Path
    num_workers: int
    arguments: Sequence[str]
    options: Sequence[str]
    endings: dict[str, list[int]] = field(default_factory=dict)
    failed: bool = False

    def __post_init__(self) -> None:
        self.workers = [self._worker(index) for index in range(self.num_workers)]

    def submit(self) -> None:
        """Create every worker."""
        for worker in self.workers:
            self.endings[worker.name] = []
            self._create(worker)

    def reconcile(self) -> bool:
        """Act on the workers that have ended; whether the job has come to its end."""
        succeeded = 0
        for worker in self.workers:
            state = worker.state
            if state["Status"] != "exited":
                continue
            code = int(state["ExitCode"])
            if code == 0:
                succeeded += 1
                continue
            self.endings[worker.name].append(code)
            if code < RETRYABLE:
                self.failed = True
                return True
            worker.remove()
            self._create(worker)
        return succeeded == self.num_workers

    def run_to_the_end(self) -> None:
        """Reconcile until the job has succeeded or failed."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.reconcile():
            assert time.monotonic() < deadline, self.output
            time.sleep(0.5)

    @property
    def output(self) -> str:
        """What the present containers wrote."""
        return "\n".join(f"== {worker.name}\n{worker.output}" for worker in self.workers)

    def remove(self) -> None:
        """Delete the job with its workers."""
        for worker in self.workers:
            worker.remove()

    def _worker(self, index: int) -> Container:
        name = f"{self.job}-worker-{index}"
        return Container(self.engine, name, self.folder / name)

    def _create(self, worker: Container) -> None:
        """With the variables that the operator adds, after those of the pod's own spec."""
        added = ("PYTHONUNBUFFERED=1", "PET_NPROC_PER_NODE=1", f"PET_NNODES={self.num_workers}")
        pairs = [part for pair in added for part in ("--env", pair)]
        worker.start(self.image, self.arguments, [*self.options, *pairs])

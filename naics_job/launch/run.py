"""One launch from settings to exit code: ledger, peers, torchrun, outcome."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from naics_job.checkpoint.catalogue import checkpoint_root
from naics_job.checkpoint.resume import RESUMES
from naics_job.config.load import LoadedConfig
from naics_job.curriculum.schedule import Phase, stage_name
from naics_job.errors import UNEXPECTED, NaicsJobError, TransientError
from naics_job.launch.ledger import Ledger
from naics_job.launch.outcome import (
    exit_code,
    left_in,
    missing_marker,
    summary_in,
    tell,
    trained_run,
)
from naics_job.launch.peer import wait_for_peer
from naics_job.launch.placement import Placement
from naics_job.launch.signals import StopRequest
from naics_job.launch.supervisor import Ending, Supervisor
from naics_job.launch.termination import LastWord, code_of
from naics_job.launch.torchrun import torchrun_command, torchrun_environment
from naics_job.launch.watchdog import Watchdog
from naics_job.observability.logs import event

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What is launched: a `train` or `train-seq` command and the settings it leads to."""

    arguments: Sequence[str]  # of naics-embedder, the command first
    loaded: LoadedConfig
    ckpt_path: str | None

    @property
    def root_url(self) -> str:
        """The checkpoint folder of the experiment."""
        return checkpoint_root(self.loaded.config)


def run_launch(job: Job, placement: Placement, request: StopRequest, word: LastWord) -> int:
    """Run the job's processes of this machine and return the exit code of the contract.

    `word` gets the code, and what the processes told of the run.

    Raises:
        NaicsJobError: the job was not started, has stalled, or says it finished and has not.
    """
    config = job.loaded.config.launch
    ledger = _ledger(job, placement)
    if not placement.is_first:
        peer = f"{placement.host}:{placement.port}"
        event(log, logging.INFO, "launch.wait", peer=peer, up_to_s=config.rendezvous_timeout_s)
        wait_for_peer(placement.host, placement.port, config.rendezvous_timeout_s)
    if ledger is not None:
        ledger.begin(job.loaded.hash, config.max_failed_starts)
    with TemporaryDirectory(prefix="naics-launch-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        code = UNEXPECTED
        try:
            code = word.exit_code = _run(job, placement, request, folder)
        except (NaicsJobError, SystemExit) as error:
            code = code_of(error)
            raise
        finally:
            word.summary = summary_in(folder)
            if ledger is not None:
                ledger.end(code, (trained_run(folder) or ("", None))[1])
    return code


def _run(job: Job, placement: Placement, request: StopRequest, folder: Path) -> int:
    config = job.loaded.config.launch
    environment = torchrun_environment(placement, folder)
    event(log, logging.INFO, "launch.start", processes=placement.num_processes,
          threads=environment["OMP_NUM_THREADS"], machines=placement.max_nodes,
          machine=placement.node_rank)  # fmt: skip
    watchdog = Watchdog(folder, config.stall_timeout_s)
    supervisor = Supervisor(folder, request, watchdog, config.grace_s)
    command = torchrun_command(placement, job.arguments, config)
    ending = supervisor.run(command, environment)
    return _judge(job, placement, request, folder, ending)


def _judge(
    job: Job, placement: Placement, request: StopRequest, folder: Path, ending: Ending
) -> int:
    if ending.stalled:
        seconds = job.loaded.config.launch.stall_timeout_s
        who = ", ".join(ending.stalled)
        raise TransientError(
            f"process(es) {who} of this machine showed no life for {seconds:g} s; all were killed",
            "their stacks are printed above; raise launch.stall_timeout_s if a step takes so long",
        )
    left = left_in(folder)
    code = exit_code(left, placement.num_processes, request.code, placement.alone)
    tell(left, placement.num_processes, code, summary_in(folder).get("error"))
    if code == 0 and (problem := missing_marker(folder)):
        raise TransientError(
            f"every process ended with 0, but the run is not finished: {problem}",
            "all machines must see the same dirs.checkpoint_dir; otherwise this is a defect of "
            "naics-job, please report it with the log",
        )
    return code


def _ledger(job: Job, placement: Placement) -> Ledger | None:
    """The ledger of a run that is continued, kept by the first machine."""
    if job.ckpt_path not in RESUMES or not placement.is_first:
        return None
    sequence = job.arguments[0] == "train-seq"
    roots = [stage_name(job.root_url, each) for each in Phase] if sequence else [job.root_url]
    return Ledger(job.root_url, roots)

"""One run at a time per experiment: a lease in its folder, held by the main process of a run.

<checkpoint_dir>/<experiment_name>/lease/00000007.json            the claim of the seventh holder
<checkpoint_dir>/<experiment_name>/lease/00000007.1a2b3c4d.json   where two could create one name

The highest epoch is the owner, of several claims to it the one with the smallest nonce. The holder
writes a counter into its own file every sixth of `ttl_s`; whoever wants the lease watches that and
never compares clocks. Taking over is creating the next epoch, so a holder that slept finds that it
has lost; see Gray and Cheriton 1989 (leases) and the fencing tokens of Kleppmann 2016.
"""

import json
import logging
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from typing import NoReturn

from naics_job.checkpoint.holder import Holder, this_process
from naics_job.errors import CheckpointError, DataError, LeaseLostError, NaicsJobError
from naics_job.observability.logs import event
from naics_job.storage import files
from naics_job.storage.failures import TakenError
from naics_job.storage.remote import impatient
from naics_job.storage.sessions import serving

log = logging.getLogger(__name__)
FOLDER = "lease"
FILE = re.compile(r"(\d{8})(?:\.([0-9a-f]{8}))?\.json")
RENEWALS = 6  # per time to live
LOOKS = 24  # at the counter of another holder, per time to live; at least one a second
RELEASE_S = 5.0  # how long an end of a run waits for a renewal that is under way
WAIT = "wait for that run, stop it, or give this one another experiment_name"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a lease file says."""

    epoch: int
    nonce: str
    holder: Holder
    run_id: str
    step: int  # optimizer steps of that run when this was written
    ttl_s: float
    counter: int
    released: bool

    def encode(self) -> bytes:
        """Return the content of the file."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"


def decode(data: bytes) -> Claim | None:
    """Return the claim in a lease file, None for content that is none."""
    try:
        values = json.loads(data)
        return Claim(**{**values, "holder": Holder(**values["holder"])})
    except (ValueError, TypeError, KeyError):
        return None


class RunLease:
    """The lease of one experiment; `acquire` it, `require` it before writing, `release` it.

    Args:
        root_url: folder of the experiment.
        run_id: told to whoever is refused.
        ttl_s: how long a holder may be silent before it is taken for dead, seconds.
        exclusive_names: whether storage lets only one of two writers create a file. If not, each
            claim has a name of its own, and two holders of one moment find out at the next look.
    """

    def __init__(self, root_url: str, run_id: str, ttl_s: float, exclusive_names: bool) -> None:
        self.folder, self.ttl_s = files.join(root_url, FOLDER), ttl_s
        self.waited = False  # or took over from one that did not end well: it may have saved lately
        self.progress: Callable[[], int] = lambda: 0  # optimizer steps of the run by now
        self._before: Claim | None = None  # of the last holder
        self._exclusive = exclusive_names
        self._claim = Claim(
            epoch=0,
            nonce=secrets.token_hex(4),
            holder=this_process(),
            run_id=run_id,
            step=0,
            ttl_s=ttl_s,
            counter=0,
            released=False,
        )
        self._lost = ""  # why
        self._stop, self._changing = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None

    @serving("control")
    def acquire(self) -> None:
        """Take the lease, from a holder that is gone or silent too, and renew it from now on.

        Raises:
            CheckpointError: another run holds it, or its files cannot be used.
            TransientError: storage cannot be reached.
        """
        names = self._names()
        if names:
            self._before = self._await_end_of(names[0])
        self._claim = replace(self._claim, epoch=_epoch(names[0]) + 1 if names else 1)
        try:
            self._create()
        except BaseException:  # a signal too: nobody shall wait for a claim of no run
            self._withdraw()
            raise
        self._prune()
        self._thread = threading.Thread(target=self._renew, name="run-lease", daemon=True)
        self._thread.start()
        event(log, logging.INFO, "lease.held", epoch=self._claim.epoch, folder=self.folder)

    def begin(self, run_id: str, step: int) -> int:
        """Say which run the lease is for, from which step on; returns the steps that were lost.

        These are the steps that the last holder had done of the same run beyond `step`, as far as
        it had written them down, which it does with every renewal.
        """
        self.progress = lambda: step
        with self._changing:
            self._claim = replace(self._claim, run_id=run_id)
        if self._before is None or self._before.run_id != run_id:
            return 0
        return max(0, self._before.step - step)

    @serving("control")
    def require(self) -> None:
        """Do nothing while the lease is held.

        Raises:
            LeaseLostError: another run has taken over; this one must not write any more.
            TransientError: storage cannot be asked.
        """
        self._look()
        if self._lost:
            hint = "leave the newer run to it; this one was silent for too long, or was suspended"
            raise LeaseLostError(f"this run has lost its lease: {self._lost}", hint)

    @serving("control")
    def release(self) -> None:
        """Let the next run start at once. A failure is a warning: that run then waits `ttl_s`."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(RELEASE_S)
        try:
            with impatient():
                self._look()
                if not self._lost:
                    self._write(released=True)
        except NaicsJobError as error:
            event(log, logging.WARNING, "lease.release_failed", error=str(error.args[0]),
                  effect=f"the next run waits up to {self.ttl_s:g} s")  # fmt: skip

    def _names(self) -> list[str]:
        """Names of the lease files, that of the owner first."""
        try:
            names = files.list_dir(self.folder)
        except DataError as error:
            raise CheckpointError(str(error.args[0]), error.hint) from error
        return sorted(filter(FILE.fullmatch, names), key=_order)

    @property
    def _name(self) -> str:
        epoch = f"{self._claim.epoch:08d}"
        return f"{epoch}.json" if self._exclusive else f"{epoch}.{self._claim.nonce}.json"

    def _read(self, name: str) -> bytes | None:
        """Content of a lease file, None if it is not there."""
        try:
            return files.read_bytes(files.join(self.folder, name))
        except DataError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise CheckpointError(str(error.args[0]), error.hint) from error

    def _await_end_of(self, name: str) -> Claim | None:
        """Return the claim `name` when it has ended, was given up, or was silent for its time."""
        seen, since = None, 0.0
        while True:
            began = time.monotonic()
            names, data = self._names(), self._read(name)
            if data is None and not names:
                return None  # taken away by hand
            claim = decode(data) if data is not None else None
            if names[:1] != [name] or (seen is not None and data != seen):
                self._refuse(claim)
            if claim is not None and claim.released:
                return claim
            if claim is not None and claim.holder.is_gone():
                event(log, logging.INFO, "lease.holder_gone", holder=str(claim.holder))
                self.waited = True
                return claim
            now, ttl_s = time.monotonic(), max(self.ttl_s, claim.ttl_s if claim else 0.0)
            if seen is None:
                self._tell_of_waiting(name, claim, ttl_s)
            if seen is None or now - began > ttl_s / RENEWALS:
                seen, since = data, now  # while storage is away, a live holder is silent too
            elif now - since >= ttl_s:
                event(log, logging.WARNING, "lease.taken_over", silent_s=round(now - since, 1))
                return claim
            time.sleep(min(1.0, ttl_s / LOOKS))

    def _tell_of_waiting(self, name: str, claim: Claim | None, ttl_s: float) -> None:
        self.waited = True
        holder = str(claim.holder) if claim else "unknown, the file cannot be read"
        event(log, logging.INFO, "lease.waiting", file=files.join(self.folder, name),
              holder=holder, run_of_holder=claim.run_id if claim else "",
              reason="its end is not recorded; this run is refused if it shows life",
              longest_s=ttl_s)  # fmt: skip

    def _create(self) -> None:
        """Write the claim of a new epoch, and see that no other one comes before it."""
        try:
            files.create_bytes(files.join(self.folder, self._name), self._claim.encode())
        except TakenError:
            self._refuse(None)
        except DataError as error:
            raise CheckpointError(str(error.args[0]), error.hint) from error
        if not self._exclusive:  # who began to write at the same time is seen after a moment
            time.sleep(min(2.0, self.ttl_s / RENEWALS))
        names = self._names()
        if names[:1] != [self._name] or self._read(self._name) != self._claim.encode():
            self._refuse(None)

    def _refuse(self, claim: Claim | None) -> NoReturn:
        who = f"run {claim.run_id}, {claim.holder}," if claim else "another run that starts now"
        raise CheckpointError(f"{self.folder} is held: {who} is using this experiment", WAIT)

    def _withdraw(self) -> None:
        """Take away an own claim that came to nothing."""
        with suppress(NaicsJobError), impatient():
            claim = decode(self._read(self._name) or b"")
            if claim is not None and claim.nonce == self._claim.nonce:
                files.remove(files.join(self.folder, self._name))

    def _prune(self) -> None:
        """Remove the files of earlier holders; one that is left does no harm."""
        try:
            for name in self._names():
                if _epoch(name) < self._claim.epoch:
                    files.remove(files.join(self.folder, name))
        except NaicsJobError as error:
            event(log, logging.WARNING, "lease.prune_failed", error=str(error.args[0]))

    def _renew(self) -> None:
        """Count up until told to stop or overtaken. An outage does not end it: see `_look`."""
        with serving("control"), impatient():
            while not (self._stop.wait(self.ttl_s / RENEWALS) or self._lost):
                try:
                    self._look()
                    if not (self._lost or self._stop.is_set()):
                        self._write(released=False)
                except NaicsJobError as error:
                    event(log, logging.WARNING, "lease.renewal_failed", error=str(error.args[0]))

    def _look(self) -> None:
        """Note it when another claim comes before this one; an own file that went is no loss."""
        first, own = next(iter(self._names()), self._name), decode(self._read(self._name) or b"")
        if _order(first) < _order(self._name):
            self._note_loss(f"{files.join(self.folder, first)} is newer than {self._name}")
        elif own is not None and own.nonce != self._claim.nonce:
            self._note_loss(f"{files.join(self.folder, self._name)} is of {own.holder} now")

    def _note_loss(self, reason: str) -> None:
        if not self._lost:
            self._lost = reason
            event(log, logging.ERROR, "lease.lost", reason=reason)

    def _write(self, *, released: bool) -> None:
        counter, step = self._claim.counter + 1, self.progress()
        with self._changing:
            self._claim = replace(self._claim, counter=counter, step=step, released=released)
        files.write_bytes_atomic(files.join(self.folder, self._name), self._claim.encode())


@contextmanager
def run_lease(
    root_url: str, run_id: str, ttl_s: float, exclusive_names: bool
) -> Iterator[RunLease]:
    """Hold the lease of an experiment for the length of the block; see `RunLease`."""
    lease = RunLease(root_url, run_id, ttl_s, exclusive_names)
    lease.acquire()
    try:
        yield lease
    finally:
        lease.release()


def _epoch(name: str) -> int:
    return int(name[:8])


def _order(name: str) -> tuple[int, str]:
    """Sorts the name of the owner's claim first."""
    return -_epoch(name), name

"""Write side of the run store: save write-once checkpoints and prune old ones of the same run.

A save is: object, read back, manifest, pointer, prune. Killed between any two of these, the store
still holds the previous checkpoint whole; a checkpoint counts only once its manifest is there.
One process writes to a run id, one save at a time.
"""

import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

from naics_job.checkpoint.catalogue import FINISHED, POINTER, RUN_FILE, Catalogue
from naics_job.checkpoint.lease import RunLease
from naics_job.checkpoint.manifest import (
    MANIFEST_SUFFIX,
    CheckpointFacts,
    CheckpointManifest,
    Finished,
    RunManifest,
    checkpoint_name,
    encode,
    step_of,
    timestamp,
)
from naics_job.errors import CheckpointError, DataError, NaicsJobError
from naics_job.observability.logs import event
from naics_job.storage import files
from naics_job.storage.sessions import serving

log = logging.getLogger(__name__)
UPLOADS = 3  # of one checkpoint, as long as each arrives changed
ALWAYS_KEPT = 2  # newest verified checkpoints; a smaller keep_last does not lower it


class RunStore:
    """The checkpoints of one run, in the folder that all runs of the experiment share.

    Args:
        root_url: folder of the experiment, local or an fsspec URL.
        run_id: this run; a resumed run keeps the id of its checkpoint.
        keep_last: verified checkpoints of this run to keep, at least `ALWAYS_KEPT`.
    """

    def __init__(self, root_url: str, run_id: str, keep_last: int) -> None:
        self.run_id, self.keep_last = run_id, max(keep_last, ALWAYS_KEPT)
        self.catalogue = Catalogue(root_url)
        self.lease: RunLease | None = None  # without one, nobody else may write to this experiment
        self._resume_source: str | None = None

    @serving("control")
    def start_run(self, run: RunManifest) -> None:
        """Write run.json once.

        Raises:
            CheckpointError: this run id has a different run.json already.
        """
        assert run.run_id == self.run_id
        known = self.catalogue.read_run(self.run_id)
        if known is not None and known != run:
            where = self.catalogue.url(self.run_id, RUN_FILE)
            raise CheckpointError(f"{where} is there and differs", "start with a new run id")
        if known is None:
            with _as_checkpoint_error():
                files.create_bytes(self.catalogue.url(self.run_id, RUN_FILE), encode(run))

    @serving("checkpoints")
    def save(self, local_file: Path, facts: CheckpointFacts) -> CheckpointManifest:
        """Store `local_file` as the checkpoint of `facts.step` and return its manifest.

        Saving the same bytes for the same step again changes nothing.

        Raises:
            CheckpointError: storage refuses or is full, this step is stored with other bytes, or
                another run has taken over the experiment.
            TransientError: storage cannot be reached; the save may be repeated as it is.
        """
        if self.lease is not None:
            self.lease.require()
        with _as_checkpoint_error():
            size, digest = files.size_of(str(local_file)), files.sha256_of(local_file)
            own = self.catalogue.scan_run(self.run_id).manifests
            manifest = self._stored(facts.step, digest, own)
            if manifest is None:
                name, is_there = self._free_name(facts.step, digest)
                manifest = CheckpointManifest(
                    name=name,
                    file=f"{name}.ckpt",
                    size_bytes=size,
                    sha256=digest,
                    run_id=self.run_id,
                    created_at=_next_time(own),
                    **asdict(facts),
                )
                self._write(local_file, manifest, is_there)
            self._point_to(manifest)
        self._prune_or_warn({manifest.name})
        return manifest

    def manifests(self) -> list[CheckpointManifest]:
        """Return the readable manifests of all runs of the experiment, newest first."""
        return self.catalogue.scan().manifests

    def verify(self, manifest: CheckpointManifest) -> None:
        """Raise `CheckpointError` unless the stored object matches `manifest`."""
        self.catalogue.verify(manifest)

    def newest_verified(self) -> tuple[CheckpointManifest | None, list[str]]:
        """Return the newest checkpoint of any run that verifies, and why others were skipped."""
        return self.catalogue.newest_verified()

    def mark_resume_source(self, manifest: CheckpointManifest) -> None:
        """Never prune `manifest`, from which this process resumed."""
        self._resume_source = manifest.path

    @serving("control")
    def mark_finished(self, finished: Finished) -> None:
        """Record that the run came to its end, which replaces an earlier end.

        Raises:
            CheckpointError: as `save`.
            TransientError: storage cannot be reached.
        """
        if self.lease is not None:
            self.lease.require()
        with _as_checkpoint_error():
            named = {"run_id": self.run_id, "created_at": timestamp()}
            text = json.dumps({**named, **asdict(finished)})
            url = self.catalogue.url(self.run_id, FINISHED)
            files.write_bytes_atomic(url, text.encode() + b"\n")

    def prune(self, protect: Collection[str] = ()) -> list[str]:
        """Delete what is older than the newest `keep_last` verified checkpoints of this run.

        Never touched: other runs, the resume source, names in `protect`. Broken checkpoints and
        objects without manifest go when they are older than all that is kept.

        Returns:
            Names of the deleted files.
        """
        own = self.catalogue.scan_run(self.run_id).manifests
        kept: list[CheckpointManifest] = []
        for manifest in own:
            if len(kept) < self.keep_last and self.catalogue.is_whole(manifest):
                kept.append(manifest)
        if len(kept) < self.keep_last:
            return []
        spared = {m.file for m in own if m.name in protect or m.path == self._resume_source}
        spared |= {m.file for m in own if m.created_at >= kept[-1].created_at}
        readable = {m.file for m in own}
        first_step = min(manifest.step for manifest in kept)
        deleted = []
        for name in self._deletable(readable - spared, readable, first_step):
            files.remove(self.catalogue.url(self.run_id, name))
            deleted.append(name)
        files.remove_leftovers(self.catalogue.url(self.run_id))
        return deleted

    def _deletable(self, old: set[str], readable: set[str], first_step: int) -> list[str]:
        """Return names to delete; manifests come first, so that none is left without object."""
        chosen = []
        for name in files.list_dir(self.catalogue.url(self.run_id)):
            file, step = name.removesuffix(MANIFEST_SUFFIX), step_of(name)
            stray = file not in readable and step is not None and step < first_step
            if file in old or stray:
                chosen.append(name)
        return sorted(chosen, key=lambda name: not name.endswith(MANIFEST_SUFFIX))

    def _prune_or_warn(self, protect: Collection[str]) -> None:
        """Prune after a save; a failure costs disk space, not the save, and is tried next time."""
        try:
            self.prune(protect)
        except NaicsJobError as error:
            event(log, logging.WARNING, "checkpoint.prune_failed", error=str(error.args[0]))

    def _stored(
        self, step: int, digest: str, own: list[CheckpointManifest]
    ) -> CheckpointManifest | None:
        """Return the whole checkpoint of `step` if there is one with these bytes."""
        for manifest in own:
            if manifest.step == step and self.catalogue.is_whole(manifest):
                if manifest.sha256 == digest:
                    return manifest
                where = self.catalogue.url(manifest.path)
                hint = "checkpoints are never overwritten; start a new run for other contents"
                raise CheckpointError(f"{where} is there with other contents", hint)
        return None

    def _free_name(self, step: int, digest: str) -> tuple[str, bool]:
        """Return a name without manifest, and whether its object is there with these bytes.

        A name is taken when a save was cut off after its object, or when the checkpoint was damaged
        and the run went back behind it.
        """
        attempt = 0
        while True:
            attempt += 1
            name = checkpoint_name(step, attempt)
            url = self.catalogue.url(self.run_id, f"{name}.ckpt")
            if files.exists(url + MANIFEST_SUFFIX):
                continue
            if not files.exists(url):
                return name, False
            if files.sha256_of(url) == digest:
                return name, True

    def _write(self, local_file: Path, manifest: CheckpointManifest, is_there: bool) -> None:
        """Upload, read back, and only then name the object in a manifest.

        An upload that arrived changed is made anew: the file it was made from is the whole one.
        """
        url = self.catalogue.url(manifest.path)
        for left in reversed(range(UPLOADS)):
            if not is_there:
                files.copy_into(local_file, url)
            try:
                self.catalogue.verify(manifest)
                break
            except CheckpointError as error:
                files.remove(url)  # ours, written just now, and no manifest ever named it
                is_there = False
                if left == 0 or files.sha256_of(local_file) != manifest.sha256:
                    raise
                event(log, logging.WARNING, "checkpoint.upload_damaged", error=str(error.args[0]))
        with serving("control"):
            files.create_bytes(url + MANIFEST_SUFFIX, encode(manifest))

    @serving("control")
    def _point_to(self, manifest: CheckpointManifest) -> None:
        text = json.dumps({"run_id": manifest.run_id, "file": manifest.file, "step": manifest.step})
        files.write_bytes_atomic(self.catalogue.url(POINTER), text.encode() + b"\n")


def _next_time(own: list[CheckpointManifest]) -> str:
    """Return the time now, but later than every checkpoint of the run: clocks of pods differ."""
    now = timestamp()
    if not own or own[0].created_at < now:
        return now
    later = datetime.fromisoformat(own[0].created_at) + timedelta(microseconds=1)
    return later.isoformat(timespec="microseconds")


@contextmanager
def _as_checkpoint_error() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise CheckpointError(str(error.args[0]), error.hint) from error

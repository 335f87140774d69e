"""Read side of the run store: which checkpoints an experiment has and which of them are whole.

<checkpoint_dir>/<experiment_name>/
  LATEST.json                                  pointer to the newest, written last
  lease/                                       who may write: see lease.py
  <run id>/run.json                            frozen at the start of the run
  <run id>/finished.json                       the run came to its end
  <run id>/step-00000100.ckpt                  write-once object
  <run id>/step-00000100.ckpt.manifest.json    written after the object was read back
"""

import json
from dataclasses import dataclass, field

from naics_job.checkpoint.lease import FOLDER as LEASE
from naics_job.checkpoint.manifest import (
    MANIFEST_SUFFIX,
    CheckpointManifest,
    Finished,
    RunManifest,
    decode,
)
from naics_job.config.schema import Config
from naics_job.errors import CheckpointError, DataError
from naics_job.storage import files
from naics_job.storage.sessions import serving

POINTER = "LATEST.json"
RUN_FILE = "run.json"
FINISHED = "finished.json"


def checkpoint_root(config: Config) -> str:
    """Path or URL of the checkpoints of `config`'s experiment."""
    return files.join(config.dirs.checkpoint_dir, config.experiment_name)


@dataclass
class Scan:
    """What was found: readable manifests, newest first, and why others were not readable."""

    manifests: list[CheckpointManifest] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Catalogue:
    """The checkpoints of one experiment, all its runs."""

    def __init__(self, root_url: str) -> None:
        self.root_url = root_url
        self._verified: dict[str, str] = {}  # path -> version of the file when it was last read

    def url(self, *parts: str) -> str:
        """Return the URL of a file of the experiment."""
        return files.join(self.root_url, *parts)

    @serving("control")
    def scan(self) -> Scan:
        """Read all manifests of the experiment. Raises `TransientError` when storage is away."""
        found = Scan()
        for run_id in self._list():
            if run_id != LEASE:
                self._scan_run(run_id, found)
        self._add_pointed(found)
        found.manifests.sort(key=_age, reverse=True)
        return found

    @serving("control")
    def scan_run(self, run_id: str) -> Scan:
        """Read the manifests of one run."""
        found = Scan()
        self._scan_run(run_id, found)
        found.manifests.sort(key=_age, reverse=True)
        return found

    @serving("checkpoints")
    def verify(self, manifest: CheckpointManifest) -> None:
        """Read the whole object and compare it with its manifest.

        Raises:
            CheckpointError: the object is missing, cut or changed.
            TransientError: storage cannot be asked now, which says nothing about the object.
        """
        url = self.url(manifest.path)
        version = ""
        try:
            version = files.version_of(url)
            size, digest = files.size_of(url), ""
            if size == manifest.size_bytes:
                digest = files.sha256_of(url)
        except DataError as error:
            raise CheckpointError(str(error.args[0]), error.hint) from error
        check_bytes(url, manifest, size, digest)
        self._verified[manifest.path] = version

    def is_whole(self, manifest: CheckpointManifest) -> bool:
        """Tell whether the object verifies; not read again if unchanged since it last did."""
        url, known = self.url(manifest.path), self._verified.get(manifest.path)
        try:
            if known and files.version_of(url) == known:
                return True
            self.verify(manifest)
        except (CheckpointError, DataError):
            return False
        return True

    def newest_verified(self) -> tuple[CheckpointManifest | None, list[str]]:
        """Return the newest checkpoint that verifies and the reasons for each one passed over."""
        found = self.scan()
        skipped = list(found.problems)
        for manifest in found.manifests:
            try:
                self.verify(manifest)
            except CheckpointError as error:
                skipped.append(str(error.args[0]))
            else:
                return manifest, skipped
        return None, skipped

    @serving("control")
    def read_run(self, run_id: str) -> RunManifest | None:
        """Return what was frozen at the start of a run, None if nothing was."""
        url = self.url(run_id, RUN_FILE)
        try:
            return decode(RunManifest, files.read_bytes(url), url) if files.exists(url) else None
        except DataError as error:
            raise CheckpointError(str(error.args[0]), error.hint) from error

    @serving("control")
    def read_finished(self, run_id: str) -> Finished | None:
        """Return how the run came to its end, None if it did not."""
        url = self.url(run_id, FINISHED)
        if not files.exists(url):
            return None
        try:
            values = json.loads(files.read_bytes(url))
            limits = {str(name): int(limit) for name, limit in values.get("limits", {}).items()}
            return Finished(step=int(values["step"]), limits=limits)
        except (DataError, ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "delete it: the run is then resumed, and finished again"
            raise CheckpointError(f"{url} cannot be read: {error}", hint) from error

    @serving("control")
    def read_pointer(self) -> tuple[str, str] | None:
        """Return run id and file of the newest checkpoint as the pointer has it, None without one.

        Raises:
            DataError: the pointer cannot be read.
        """
        url = self.url(POINTER)
        if not files.exists(url):
            return None
        try:
            pointer = json.loads(files.read_bytes(url))
            return str(pointer["run_id"]), str(pointer["file"])
        except (DataError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{url} cannot be read: {error}") from error

    def _list(self, *parts: str) -> list[str]:
        try:
            return files.list_dir(self.url(*parts))
        except DataError as error:
            raise CheckpointError(str(error.args[0]), error.hint) from error

    def _scan_run(self, run_id: str, found: Scan) -> None:
        for name in self._list(run_id):
            if name.startswith("step-") and name.endswith(MANIFEST_SUFFIX):
                self._read(run_id, name, found)

    def _read(self, run_id: str, name: str, found: Scan) -> None:
        url = self.url(run_id, name)
        try:
            manifest = decode(CheckpointManifest, files.read_bytes(url), url)
            place = (manifest.run_id, manifest.file + MANIFEST_SUFFIX)
            if place != (run_id, name):  # a path from inside a file is never followed
                raise CheckpointError(f"{url} describes another file: {manifest.path}")
        except (CheckpointError, DataError) as error:
            found.problems.append(str(error.args[0]))
        else:
            found.manifests.append(manifest)

    def _add_pointed(self, found: Scan) -> None:
        """Add what the pointer names, in case a listing does not show it yet."""
        try:
            pointed = self.read_pointer()
        except DataError as error:
            found.problems.append(str(error.args[0]))
            return
        if pointed is None:
            return
        run_id, file = pointed
        known = {manifest.path for manifest in found.manifests}
        plain = "/" not in run_id + file and not run_id.startswith(".")
        if plain and f"{run_id}/{file}" not in known:
            name = file + MANIFEST_SUFFIX
            if not any(name in problem for problem in found.problems):
                self._read(run_id, name, found)


def check_bytes(where: str, manifest: CheckpointManifest, size: int, digest: str) -> None:
    """Compare the size in bytes and sha256 of the file `where` with its manifest.

    Raises:
        CheckpointError: says whether the file is cut, too long, or changed.
    """
    hint = "use --ckpt-path last, which takes the newest whole checkpoint"
    if size != manifest.size_bytes:
        word = "truncated" if size < manifest.size_bytes else "too long"
        text = f"{where} is {word}: {size} bytes of {manifest.size_bytes}"
        raise CheckpointError(text, hint)
    if digest != manifest.sha256:
        raise CheckpointError(f"{where} is damaged: its sha256 differs from its manifest", hint)


def _age(manifest: CheckpointManifest) -> tuple[str, str, int]:
    return manifest.created_at, manifest.run_id, manifest.step

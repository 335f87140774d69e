"""What is recorded about a checkpoint and about a run, and how it is read back without trust.

Nothing here imports torch: the launcher and the command line read manifests in milliseconds.
"""

import functools
import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any, TypeVar, get_origin, get_type_hints

from naics_job.errors import CheckpointError
from naics_job.storage.files import JSON

SCHEMA_VERSION = 2
MANIFEST_SUFFIX = ".manifest.json"
ADDED = ("heldout_digest",)  # fields that files of version 1 lack; their default is "unknown"


@dataclass(frozen=True, kw_only=True)
class CheckpointFacts:
    """What training says about the state it saves."""

    step: int  # finished optimizer steps
    epoch: int
    position: int  # anchors of the epoch already handed out, all processes together
    phase: int
    borders: dict[str, JSON]  # of the SADC phases, frozen at the first start
    config_hash: str
    architecture: str  # see `architecture_of`
    world_size: int
    global_batch_size: int
    versions: dict[str, str]  # package -> version


@dataclass(frozen=True, kw_only=True)
class CheckpointManifest:
    """One stored checkpoint: its facts, where it is and what its bytes are."""

    name: str  # step-00000100
    file: str  # step-00000100.ckpt, in the folder of the run
    size_bytes: int
    sha256: str
    run_id: str
    step: int
    epoch: int
    position: int
    phase: int
    borders: dict[str, JSON]
    config_hash: str
    architecture: str
    world_size: int
    global_batch_size: int
    created_at: str  # ISO 8601, UTC, microseconds; grows within a run
    versions: dict[str, str]
    schema_version: int = SCHEMA_VERSION

    @property
    def path(self) -> str:
        """Where the checkpoint is below the folder of the experiment."""
        return f"{self.run_id}/{self.file}"


@dataclass(frozen=True, kw_only=True)
class RunManifest:
    """What is frozen when a run first starts, kept as run.json."""

    run_id: str
    config_hash: str
    borders: dict[str, JSON]
    global_batch_size: int
    total_steps: int
    base_model_sha256: str
    data_digest: str
    created_at: str
    warm_start: str = ""  # sha256 of the checkpoint whose weights it started from
    heldout_digest: str = ""  # sha256 over the held-out codes; empty: unknown
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class Finished:
    """That a run came to its end, kept as finished.json."""

    step: int
    limits: dict[str, int]  # what its settings planned, such as max_epochs; empty: unknown


Record = TypeVar("Record", CheckpointManifest, RunManifest)


def timestamp() -> str:
    """Return the time now as ISO 8601 in UTC, of one length so that text order is time order."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_run_id() -> str:
    """Return a new run id: UTC time and a random suffix, as 20260102-030405-1a2b3c."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def checkpoint_name(step: int, attempt: int = 1) -> str:
    """Return the name of a checkpoint; `attempt` counts up past names that are taken."""
    return f"step-{step:08d}" if attempt == 1 else f"step-{step:08d}.{attempt}"


def step_of(file: str) -> int | None:
    """Return the step in the name of a checkpoint file or manifest, None for other files."""
    head = file.split(".", maxsplit=1)[0].removeprefix("step-")
    return int(head) if file.startswith("step-") and head.isdecimal() else None


def encode(record: CheckpointManifest | RunManifest) -> bytes:
    """Return `record` as JSON that holds the sha256 of itself."""
    values = asdict(record)
    return json.dumps({**values, "record_sha256": _digest(values)}, indent=2).encode() + b"\n"


def decode(kind: type[Record], data: bytes, where: str) -> Record:
    """Return the record in `data`, which was read from `where`.

    Raises:
        CheckpointError: it is cut, changed, of another kind, or of a newer version.
    """
    hint = "restore the file, or move it away to go on without it"
    try:
        values = json.loads(data)
    except ValueError as error:
        raise CheckpointError(f"{where} is no JSON: {error}", hint) from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{where} is no JSON object", hint)
    version = values.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        text = f"{where} has schema version {version}; this program knows {SCHEMA_VERSION}"
        raise CheckpointError(text, "use the version of naics-job that wrote it, or a newer one")
    stored = values.pop("record_sha256", None)
    wrong = _wrong_fields(kind, values)
    if wrong:
        raise CheckpointError(f"{where} lacks or mistypes {', '.join(wrong)}", hint)
    if stored != _digest(values):
        raise CheckpointError(f"{where} was changed after it was written", hint)
    return kind(**values)


def _wrong_fields(kind: type[Any], values: dict[str, Any]) -> list[str]:
    expected = _plain_types(kind)  # type: ignore[arg-type]  # mypy: classes are not Hashable
    wrong = [name for name in values if name not in expected]
    for name, plain in expected.items():
        if name in ADDED and name not in values:
            continue
        if type(values.get(name)) is not plain:
            wrong.append(name)
    return sorted(wrong)


@functools.cache
def _plain_types(kind: type[Any]) -> dict[str, type[Any]]:
    """The type of each field without its parameters; asking takes as long as the rest of a read."""
    hints = get_type_hints(kind)
    return {
        field.name: get_origin(hints[field.name]) or hints[field.name] for field in fields(kind)
    }


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

"""The content of a checkpoint file: plain containers and tensors, never code.

Loading trusts nothing: size and sha256 come first, then the container format, then
`torch.load(weights_only=True)`, which builds tensors and plain data and calls nothing else.
"""

import hashlib
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from naics_job.checkpoint.catalogue import check_bytes
from naics_job.checkpoint.manifest import CheckpointManifest
from naics_job.errors import CheckpointError, DataError
from naics_job.storage import files
from naics_job.storage.failures import translated
from naics_job.storage.local import replace_local

BROKEN = (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError)
PLAIN = (bool, int, float, str, bytes, type(None))


class HasShape(Protocol):
    """A tensor as far as `architecture_of` needs it."""

    @property
    def shape(self) -> Any:
        """Sizes of the axes."""


def architecture_of(state: Mapping[str, HasShape]) -> str:
    """Return a sha256 over names and shapes of `state`: equal if and only if weights fit."""
    shapes = {name: [int(size) for size in value.shape] for name, value in state.items()}
    return hashlib.sha256(json.dumps(shapes, sort_keys=True).encode()).hexdigest()


def save_payload(payload: Mapping[str, Any], local_file: Path, *, sync: bool = True) -> None:
    """Write `payload` to a local file, which appears whole or not at all.

    Equal payloads give equal bytes whatever the file is called. For `sync` see `replace_local`.

    Raises:
        CheckpointError: an item is neither plain data nor a tensor, or the disk is full.
    """
    import torch

    _require_plain(payload, "payload")
    hint = "free space on the disk of the checkpoint scratch folder; older checkpoints are intact"
    try:
        with translated("write", str(local_file)):
            # a file object, not a path: torch would put the name of the file into its bytes
            replace_local(local_file, lambda file: torch.save(dict(payload), file), sync=sync)
    except DataError as error:
        raise CheckpointError(str(error.args[0]), hint) from error
    except RuntimeError as error:  # raised by torch while it closes the archive that failed
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise CheckpointError(f"cannot write {local_file}: {reason}", hint) from error


def load_payload(local_file: Path, manifest: CheckpointManifest | None) -> dict[str, Any]:
    """Return the content of a checkpoint file with all tensors on the CPU.

    Args:
        local_file: see `resume.ResumePlan.local_file`.
        manifest: what the file must be; None for a file without one, whose checksums inside the
            archive are compared instead.

    Raises:
        CheckpointError: the file is missing, cut, changed, or holds anything but tensors and plain
            data. Nothing in it is executed.
    """
    try:
        size = files.size_of(str(local_file))
        if manifest is not None:
            same_size = size == manifest.size_bytes
            digest = files.sha256_of(local_file) if same_size else ""
            check_bytes(str(local_file), manifest, size, digest)
    except DataError as error:
        raise CheckpointError(str(error.args[0]), error.hint) from error
    _require_archive(local_file, deep=manifest is None)
    return _load(local_file)


def _load(local_file: Path) -> dict[str, Any]:
    import torch

    hint = "use a checkpoint that naics-job wrote"
    try:
        payload = torch.load(local_file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        text = f"{local_file} holds more than tensors and plain data, refused unexecuted: {reason}"
        raise CheckpointError(text, hint) from error
    except BROKEN as error:
        raise CheckpointError(f"{local_file} cannot be read: {error}", hint) from error
    if not isinstance(payload, dict):
        raise CheckpointError(f"{local_file} holds no checkpoint but {type(payload)}", hint)
    return payload


def _require_archive(local_file: Path, deep: bool) -> None:
    """Require a torch archive; `deep` compares the checksums inside it too."""
    hint = "give a .ckpt file that naics-job wrote"
    try:
        with zipfile.ZipFile(local_file) as archive:
            if not any(name.endswith("/data.pkl") for name in archive.namelist()):
                raise CheckpointError(f"{local_file} is an archive but no checkpoint", hint)
            damaged = archive.testzip() if deep else None
    except (*BROKEN, zipfile.BadZipFile, zlib.error, struct.error, OSError) as error:
        text = f"{local_file} is truncated, damaged or no checkpoint: {error}"
        raise CheckpointError(text, hint) from error
    if damaged is not None:
        raise CheckpointError(f"{local_file} is damaged: checksum of {damaged} differs", hint)


def _require_plain(value: Any, where: str) -> None:
    """Find at save time what loading would refuse."""
    import torch

    if isinstance(value, Mapping):
        for key, item in value.items():
            _require_plain(key, f"a key of {where}")
            _require_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _require_plain(item, f"{where}[{index}]")
    elif not isinstance(value, torch.Tensor) and type(value) not in PLAIN:
        text = f"{where} is {type(value).__name__}, which a checkpoint cannot hold"
        raise CheckpointError(text, "save numbers, texts, lists, dicts and tensors only")

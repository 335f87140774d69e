"""Read settings from file, profile and arguments into one checked, frozen `Config`.

No heavy import happens here: a wrong setting must end the job before it costs anything.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from naics_job.config.convert import typed_layer
from naics_job.config.layers import Layer, parse_override, read_layer
from naics_job.config.schema import Config
from naics_job.config.suggest import text_keys
from naics_job.errors import ConfigError

FILE_NAME = "config.yaml"
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class LoadedConfig:
    """The checked settings, where each came from, and a digest of them all."""

    config: Config
    provenance: dict[str, str]  # dotted key -> default | file | profile | override
    hash: str  # sha256 of the canonical JSON of `config`
    sources: tuple[str, ...]  # the files that were read, the packaged one first


def load_config(
    path: Path | None = None,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    base_url: str | None = None,
) -> LoadedConfig:
    """Merge the packaged settings, a file, a profile and KEY=VALUE arguments; the last one wins.

    Args:
        path: a YAML file, which may hold only the settings it changes, or a folder with a
            config.yaml. None: conf/config.yaml of the working folder when there is one.
        profile: name of a file in the folder `profile` beside that file, or of a packaged one.
        overrides: KEY=VALUE with dotted keys.
        base_url: from where the folder of `path` was copied, for messages.

    Raises:
        ConfigError: an unknown key, a wrong type or a value out of range, a file or profile that
            is missing or not YAML.
    """
    layers = [read_layer(packaged_conf() / FILE_NAME, "default")]
    chosen = _chosen_file(path)
    if not chosen.exists() or not chosen.samefile(packaged_conf() / FILE_NAME):
        layers.append(read_layer(chosen, "file", _shown(chosen, chosen, base_url)))
    if profile is not None:
        file = _profile_file(profile, chosen.parent)
        layers.append(read_layer(file, "profile", _shown(file, chosen, base_url)))
    names = tuple(text_keys(Config))
    sources = tuple(layer.source for layer in layers)
    layers += [parse_override(argument, names) for argument in overrides]
    typed = [typed_layer(layer, Config) for layer in layers]
    try:
        config = _build(typed)
    except ConfigError as error:
        raise _located(error, layers, typed) from error
    provenance = {
        key: layer.origin
        for layer, values in zip(layers, typed, strict=True)
        for key in _leaves(values)
    }
    return LoadedConfig(config, provenance, config_hash(config), sources)


def packaged_conf() -> Path:
    """Return the folder of the settings shipped with the package, or of the source tree."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def file_to_edit(path: str | None) -> Path:
    """Return the settings file that belongs to the user: `path`, or the working folder's.

    Raises:
        ConfigError: `path` is a URL.
    """
    if path is None:
        return Path("conf") / FILE_NAME
    if "://" in path:
        hint = "leave out --apply, and change the file where it belongs"
        raise ConfigError(f"{path} is not a file of this machine", hint)
    file = Path(path)
    return file / FILE_NAME if file.is_dir() else file


def profile_names(folder: Path) -> list[str]:
    """List the profiles of a settings folder and of the package."""
    folders = (folder / "profile", packaged_conf() / "profile")
    return sorted({file.stem for place in folders for file in place.glob("*.yaml")})


def to_plain(config: Config) -> dict[str, Any]:
    """Return the settings as dicts, lists and scalars."""
    plain = json.loads(json.dumps(dataclasses.asdict(config)))
    assert isinstance(plain, dict)
    return plain


def to_yaml(config: Config) -> str:
    """Return the settings as YAML that `--config` reads back."""
    text: str = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
    return text


def to_json(config: Config) -> str:
    """Return the settings as indented JSON."""
    return json.dumps(to_plain(config), indent=2)


def config_hash(config: Config) -> str:
    """Return the sha256 of the settings, whatever way they were written."""
    canonical = json.dumps(to_plain(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _chosen_file(path: Path | None) -> Path:
    if path is None:
        local = Path("conf") / FILE_NAME
        return local if local.is_file() else packaged_conf() / FILE_NAME
    if not path.is_dir():
        return path
    if not (path / FILE_NAME).is_file():
        hint = f"name the file itself, or add {path / FILE_NAME}"
        raise ConfigError(f"--config: the folder {path} holds no {FILE_NAME}", hint)
    return path / FILE_NAME


def _shown(file: Path, chosen: Path, base_url: str | None) -> str | None:
    """What messages call `file` when the folder of the file `chosen` is a copy of `base_url`."""
    if base_url is None or not file.is_relative_to(chosen.parent):
        return None
    return f"{base_url}/{file.relative_to(chosen.parent).as_posix()}"


def _profile_file(name: str, folder: Path) -> Path:
    for place in (folder, packaged_conf()):
        file = place / "profile" / f"{name}.yaml"
        if Path(name).name == name and file.is_file():
            return file
    known = ", ".join(profile_names(folder))
    raise ConfigError(f"--profile: there is no profile {name!r}", f"use one of: {known}")


def _build(layers: Sequence[Mapping[str, Any]]) -> Config:
    defaults, *changes = layers
    try:
        base = _merged_defaults(json.dumps(defaults))
        config = OmegaConf.to_object(OmegaConf.merge(base, *changes))
    except OmegaConfBaseException as error:
        key = error.full_key or "a setting"
        reason = str(error.msg or error).partition("\n")[0]
        hint = f"check the ${{...}} in the value of {key}"
        raise ConfigError(f"{key} cannot be resolved: {reason}", hint) from error
    assert isinstance(config, Config)
    return config


@functools.cache
def _merged_defaults(values: str) -> DictConfig:
    """Return the schema filled with `values`, as JSON: 0.04 s, needed once in a process."""
    merged = OmegaConf.merge(OmegaConf.structured(Config), json.loads(values))
    assert isinstance(merged, DictConfig)
    return merged  # OmegaConf.merge copies its first argument, so nothing changes this one


def _located(
    error: ConfigError, layers: Sequence[Layer], typed: Sequence[Mapping[str, Any]]
) -> ConfigError:
    """Say where the refused value was set, in the hint if it has none of its own."""
    message = str(error.args[0])
    key = message.partition("=")[0]
    places = [
        "on the command line" if layer.origin == "override" else f"in {layer.where(key)}"
        for layer, values in zip(layers, typed, strict=True)
        if key in _leaves(values)
    ]
    if not error.hint:
        return ConfigError(message, f"change it {places[-1]}" if places else f"change {key}")
    return ConfigError(f"{message} (set {places[-1]})", error.hint) if places else error


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"

"""Change single values in a settings file and leave the rest, comments included, as it is."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from naics_job.config.layers import Layer, RawValue, Scalar, read_layer
from naics_job.errors import ConfigError

WRITTEN = re.compile(r"^(\s*[\w.-]+:)\s*[^#]*?(\s*#.*)?$")  # key, value, comment


def set_values(path: Path, values: Mapping[str, int]) -> None:
    """Write whole numbers under dotted keys into the YAML file `path`, made when it is missing.

    Raises:
        ConfigError: the file cannot be written, or is laid out in a way that cannot be edited.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        for key, value in values.items():
            layer = read_layer(path, "file")
            lines = path.read_text(encoding="utf-8").splitlines()
            _set(lines, layer, key, value)
            draft = path.with_name(f".{path.name}.new")
            draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
            if _find(read_layer(draft, "file").values, key) != Scalar(str(value)):
                draft.unlink()
                hint = f"set {key}: {value} by hand"
                raise ConfigError(f"{path}: {key} cannot be edited in place", hint)
            os.replace(draft, path)
    except OSError as error:
        hint = "make it writable, or set these by hand: " + _by_hand(values)
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint) from error


def _set(lines: list[str], layer: Layer, key: str, value: int) -> None:
    """Replace the value of `key`, or add the key below its nearest section in the file."""
    if key in layer.lines:
        row = layer.lines[key] - 1
        lines[row] = re.sub(
            r"^(\s*[\w.-]+:)\s*[^#]*?(\s*#.*)?$", rf"\g<1> {value}\g<2>", lines[row]
        )
        return
    parts = key.split(".")
    known = max(n for n in range(len(parts)) if n == 0 or ".".join(parts[:n]) in layer.lines)
    if known == 0:
        row, indent = len(lines), 0
    else:
        row = layer.lines[".".join(parts[:known])]
        indent = len(lines[row - 1]) - len(lines[row - 1].lstrip()) + 2
    added = [f"{' ' * (indent + 2 * n)}{part}:" for n, part in enumerate(parts[known:])]
    added[-1] += f" {value}"
    lines[row:row] = added


def _find(values: Mapping[str, RawValue], key: str) -> RawValue | None:
    found: RawValue | None = dict(values)
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _by_hand(values: Mapping[str, int]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())

"""Read settings as they were written: YAML files and KEY=VALUE arguments, before any typing.

Scalars stay text until the schema says what they are, so `experiment_name=007` is not a number and
`1e-4`, text to YAML 1.1, is one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml

from naics_job.errors import ConfigError

MAX_DEPTH = 20  # a recursive YAML alias would not end otherwise
QUOTED = ("'", '"', "|", ">")  # styles of text that is text whatever it looks like
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # the C parser is ten times as fast


class Scalar(NamedTuple):
    """One value as written; quoted text is never null, a number or a flag of its own accord."""

    text: str
    quoted: bool = False


RawValue = Scalar | list["RawValue"] | dict[str, "RawValue"]


@dataclass(frozen=True)
class Layer:
    """Settings from one place; `origin` is default, file, profile or override."""

    origin: str
    source: str
    values: dict[str, RawValue]
    lines: dict[str, int] = field(default_factory=dict)

    def where(self, key: str) -> str:
        """Name the place of `key` for a message."""
        line = self.lines.get(key)
        return self.source if line is None else f"{self.source}:{line}"


def read_layer(path: Path, origin: str, shown: str | None = None) -> Layer:
    """Read a YAML file of settings; messages call it `shown` where that is given.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or names a key twice.
    """
    name = shown or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        hint = "give --config an existing file, or a folder that holds config.yaml"
        raise ConfigError(f"settings file {name} does not exist", hint) from error
    except (OSError, UnicodeDecodeError) as error:
        hint = "check its permissions and that it is UTF-8 text"
        raise ConfigError(f"settings file {name} cannot be read: {error}", hint) from error
    node = _compose(text, name)
    layer = Layer(origin, name, {})
    if node is None:
        return layer
    values = _plain(node, "", layer, 0)
    if isinstance(values, dict):
        layer.values.update(values)
        return layer
    raise ConfigError(
        f"{name} does not hold settings: expected lines such as `seed: 42`",
        "compare it with the output of `naics-embedder tools config --format yaml`",
    )


def parse_override(argument: str, text_keys: Sequence[str]) -> Layer:
    """Read one KEY=VALUE argument; the values of `text_keys` are taken letter by letter."""
    key, equals, text = argument.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ConfigError(
            f"{argument!r} is not a setting: expected KEY=VALUE",
            "write for example data_loader.batch_size=16",
        )
    layer = Layer("override", "command line", {})
    value: RawValue = Scalar(text)
    if key not in text_keys:
        node = _compose(text, f"command line, {key}")
        value = Scalar("") if node is None else _plain(node, key, layer, 0)
    layer.lines.clear()  # line 1 of an argument says nothing
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    layer.values.update(value)
    return layer


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        hint = "mend the syntax; look for a missing colon, quote or indent at or above that place"
        raise ConfigError(f"{place} is not valid YAML: {problem}", hint) from error
    return node


def _plain(node: yaml.Node, key: str, layer: Layer, depth: int) -> RawValue:
    if depth > MAX_DEPTH:
        hint = "write the values out instead of using a YAML alias"
        raise ConfigError(f"{layer.where(key)}: {key} is nested too deeply", hint)
    if isinstance(node, yaml.MappingNode):
        return _plain_mapping(node, key, layer, depth)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, key, layer, depth + 1) for item in node.value]
    assert isinstance(node, yaml.ScalarNode)
    return Scalar(node.value, quoted=node.style in QUOTED)


def _plain_mapping(
    node: yaml.MappingNode, prefix: str, layer: Layer, depth: int
) -> dict[str, RawValue]:
    values: dict[str, RawValue] = {}
    for key_node, value_node in node.value:
        name = key_node.value
        line = key_node.start_mark.line + 1
        if not isinstance(name, str):
            hint = "write keys as plain words"
            raise ConfigError(f"{layer.source}:{line} has a key that is not a word", hint)
        key = f"{prefix}.{name}" if prefix else name
        if name in values:
            first = layer.where(key)
            message = f"{key} is set twice: at {first} and at {layer.source}:{line}"
            raise ConfigError(message, "keep one of the two lines")
        layer.lines[key] = line
        values[name] = _plain(value_node, key, layer, depth + 1)
    return values

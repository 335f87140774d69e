"""Give the values of a layer the types of the schema, refusing what does not fit."""

import dataclasses
import re
import types
import typing
from collections.abc import Callable
from typing import Any, NoReturn

from naics_job.config.layers import Layer, RawValue, Scalar
from naics_job.config.suggest import known_keys, known_sections, nearest_key
from naics_job.config.trainer import REFUSED_ARGUMENTS, TRAINER_ARGUMENTS, TRAINER_KEY
from naics_job.errors import ConfigError

NULL = ("", "null", "Null", "NULL", "~")
MISSING = "???"  # a value left open, in the words of OmegaConf
TRUE = ("true", "yes", "on")
FALSE = ("false", "no", "off")
WHOLE = re.compile(r"[+-]?\d+(_\d+)*")
NUMBER = re.compile(r"[+-]?(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?")
EXPECTED = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def typed_layer(layer: Layer, schema: type) -> dict[str, Any]:
    """Return the values of `layer` with the types of `schema`.

    Text that holds an interpolation, `${...}`, passes as it is: OmegaConf checks what it becomes.

    Raises:
        ConfigError: an unknown key, a wrong type, or null where a value is needed.
    """
    return _typed_section(layer.values, schema, "", layer, schema)


def _typed_section(
    values: dict[str, RawValue], section: type, prefix: str, layer: Layer, root: type
) -> dict[str, Any]:
    hints = {field.name: field.type for field in dataclasses.fields(section)}
    typed: dict[str, Any] = {}
    for name, raw in values.items():
        key = f"{prefix}{name}"
        if name not in hints:
            _refuse_unknown(key, raw, layer, root)
        hint: Any = hints[name]
        if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)) and key != TRAINER_KEY:
            typed[name] = _typed_value(raw, hint, key, layer)
        elif not isinstance(raw, dict):
            example = next(known for known in known_keys(root) if known.startswith(f"{key}."))
            message = f"{key}={_shown(raw)} ({layer.where(key)}) is not a group of settings"
            raise ConfigError(message, f"{key} holds settings such as {example}; set those")
        elif key == TRAINER_KEY:
            typed[name] = _typed_trainer(raw, layer, root)
        else:
            typed[name] = _typed_section(raw, hint, f"{key}.", layer, root)
    return typed


def _typed_trainer(values: dict[str, RawValue], layer: Layer, root: type) -> dict[str, Any]:
    for name, raw in values.items():
        key = f"{TRAINER_KEY}.{name}"
        if name in REFUSED_ARGUMENTS:
            reason, instead = REFUSED_ARGUMENTS[name]
            message = f"{key}={_shown(raw)} ({layer.where(key)}) is not taken: {reason}"
            raise ConfigError(message, instead)
        if name not in TRAINER_ARGUMENTS:
            _refuse_unknown(key, raw, layer, root)
    return {name: _untyped(raw) for name, raw in values.items()}


def _typed_value(raw: RawValue, hint: Any, key: str, layer: Layer) -> Any:
    optional = isinstance(hint, types.UnionType)
    if optional:
        (hint,) = (arm for arm in typing.get_args(hint) if arm is not types.NoneType)
    if isinstance(raw, Scalar):
        if optional and _is_null(raw):
            return None
        if "${" in raw.text:
            return raw.text
        if raw.text != MISSING and hint in _PARSERS and (value := _PARSERS[hint](raw)) is not None:
            return value
    elif typing.get_origin(hint) is tuple and isinstance(raw, list):
        (item, _) = typing.get_args(hint)
        return [_typed_value(element, item, key, layer) for element in raw]
    expected = EXPECTED.get(hint, "a list such as [a, b]") + (" or null" if optional else "")
    message = f"{key}={_shown(raw)} ({layer.where(key)}) has the wrong type: expected {expected}"
    raise ConfigError(message, f"set {key} to {expected}")


def _is_null(raw: Scalar) -> bool:
    return not raw.quoted and raw.text in NULL


def _parse_text(raw: Scalar) -> str | None:
    return None if raw.text and _is_null(raw) else raw.text


def _parse_float(raw: Scalar) -> float | None:
    return float(raw.text) if NUMBER.fullmatch(raw.text) else None


def _parse_bool(raw: Scalar) -> bool | None:
    word = raw.text.lower()
    return word in TRUE if word in TRUE + FALSE else None


_PARSERS: dict[type, Callable[[Scalar], Any]] = {
    str: _parse_text,
    int: lambda raw: int(raw.text) if WHOLE.fullmatch(raw.text) else None,
    float: _parse_float,
    bool: _parse_bool,
}


def _untyped(raw: RawValue) -> Any:
    """Guess the type of a value the schema leaves open, by the rules of YAML 1.2."""
    if isinstance(raw, dict):
        return {name: _untyped(value) for name, value in raw.items()}
    if isinstance(raw, list):
        return [_untyped(value) for value in raw]
    if _is_null(raw) or raw.quoted:
        return None if _is_null(raw) else raw.text
    if raw.text.lower() in ("true", "false"):
        return raw.text.lower() == "true"
    guesses = (_PARSERS[kind](raw) for kind in (int, float))
    return next((guess for guess in guesses if guess is not None), raw.text)


def _shown(raw: RawValue) -> str:
    if isinstance(raw, Scalar):
        return repr(raw.text) if raw.quoted else raw.text or "null"
    if isinstance(raw, list):
        return "[" + ", ".join(_shown(item) for item in raw) + "]"
    return "{" + ", ".join(f"{name}: {_shown(value)}" for name, value in raw.items()) + "}"


def _refuse_unknown(key: str, raw: RawValue, layer: Layer, root: type) -> NoReturn:
    place = layer.where(key)
    while isinstance(raw, dict) and len(raw) == 1:  # name the whole dotted key that was written
        ((name, raw),) = raw.items()
        key = f"{key}.{name}"
    near = nearest_key(key, root)
    fix = f"did you mean {near}?"
    if near in set(known_sections(root)):
        below = (known for known in known_keys(root) if known.startswith(f"{near}."))
        names = dict.fromkeys(known.removeprefix(f"{near}.").partition(".")[0] for known in below)
        fix = f"the group {near} holds {', '.join(names)}."
    raise ConfigError(
        f"{key}={_shown(raw)} ({place}): there is no setting {key}",
        f"{fix} `naics-embedder tools config` lists all settings",
    )

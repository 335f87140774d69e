"""Find the setting a mistyped key most likely meant."""

import dataclasses
import difflib
from collections.abc import Iterator

from naics_job.config.trainer import TRAINER_ARGUMENTS, TRAINER_KEY


def known_keys(schema: type, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every setting of a schema class, its sections left out."""
    for field in dataclasses.fields(schema):
        key = f"{prefix}{field.name}"
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from known_keys(field.type, f"{key}.")
        elif key == TRAINER_KEY:
            yield from (f"{key}.{name}" for name in TRAINER_ARGUMENTS)
        else:
            yield key


def known_sections(schema: type, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every group of settings of a schema class."""
    for field in dataclasses.fields(schema):
        key = f"{prefix}{field.name}"
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield key
            yield from known_sections(field.type, f"{key}.")
        elif key == TRAINER_KEY:
            yield key


def text_keys(schema: type, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every setting that is text, or text or null."""
    for field in dataclasses.fields(schema):
        key = f"{prefix}{field.name}"
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            yield from text_keys(field.type, f"{key}.")
        elif field.type in (str, str | None):
            yield key


def nearest_key(key: str, schema: type) -> str:
    """Return the known setting or section closest to `key`.

    The last word decides first: `data.batch_size` means `data_loader.batch_size`, not one of its
    neighbours in `data`. Next come its neighbours, then their section, then the whole dotted key.
    """
    candidates = [*known_keys(schema), *known_sections(schema)]
    word = key.rpartition(".")[2]
    same_word = [other for other in candidates if other.rpartition(".")[2] == word]
    section = key.rpartition(".")[0]
    siblings = [other for other in candidates if other.rpartition(".")[0] == section]
    near_sibling = difflib.get_close_matches(key, siblings, n=1, cutoff=0.75)
    if not same_word and not near_sibling and section in candidates:
        return section
    pool = same_word or near_sibling or candidates
    return difflib.get_close_matches(key, pool, n=1, cutoff=0.0)[0]

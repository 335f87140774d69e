"""The cached features of the frozen encoder, found without loading an encoder."""

import torch
from torch import Tensor

from naics_job.model.features import (
    SCHEMA_VERSION,
    CodeFeatures,
    FrozenFeatures,
    read_features,
    text_direction,
)
from naics_job.storage.files import Manifest, join, list_dir, read_manifest
from naics_job.storage.node_cache import NodeCache

SUFFIX = ".safetensors"


def newest_features(
    folder: str, base_sha256: str, num_codes: int, cache: NodeCache
) -> FrozenFeatures | None:
    """The newest features in `folder` of these base weights and this number of codes.

    Which texts they were made from is known by their token store only, which would need the
    tokenizer; the number of codes stands in for it.

    Raises:
        DataError: the file does not match its checksum or holds no features.
    """
    found: list[tuple[str, str, str]] = []  # created, url, sha256
    for name in list_dir(folder):
        url = join(folder, name)
        manifest = read_manifest(url) if name.endswith(SUFFIX) else None
        if manifest is not None and _fits(manifest, base_sha256, num_codes):
            found.append((manifest.created_at, url, manifest.sha256))
    if not found:
        return None
    _, url, sha256 = max(found)
    return read_features(url, sha256, cache)


def code_directions(features: FrozenFeatures) -> Tensor:
    """What every code is by its words, `[code, hidden]`; see `model.features.text_direction`."""
    everyone = torch.arange(len(features.title))
    return text_direction(*CodeFeatures(features).channels(everyone))


def _fits(manifest: Manifest, base_sha256: str, num_codes: int) -> bool:
    same_base = manifest.inputs.get("base") == base_sha256
    current = manifest.schema_version == SCHEMA_VERSION
    return current and same_base and manifest.rows == num_codes

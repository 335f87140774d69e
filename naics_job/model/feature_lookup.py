"""Find the cached features of the frozen encoder without loading an encoder."""

from naics_job.config.data_schema import TokenizationConfig
from naics_job.model.features import FrozenFeatures, features_digest, read_features
from naics_job.storage.files import join, list_dir, read_manifest
from naics_job.storage.node_cache import NodeCache

SUFFIX = ".safetensors"


def cached_features(
    folder: str, num_codes: int, base_sha256: str, config: TokenizationConfig, cache: NodeCache
) -> FrozenFeatures | None:
    """The newest features in `folder` of these base weights, token limits and number of codes.

    Which texts it was made from is known by their token store only, which would need the tokenizer;
    the number of codes stands in for it.

    Raises:
        DataError: the file does not match its checksum or holds no features.
    """
    found: list[tuple[str, str, str]] = []  # created, url, sha256
    for name in list_dir(folder):
        url = join(folder, name)
        manifest = read_manifest(url) if name.endswith(SUFFIX) else None
        if manifest is None or manifest.rows != num_codes:
            continue
        tokens, base = manifest.inputs.get("tokens", ""), manifest.inputs.get("base", "")
        digests = [features_digest(tokens, base, config, bf16) for bf16 in (False, True)]
        if base == base_sha256 and name.removesuffix(SUFFIX) in digests:
            found.append((manifest.created_at, url, manifest.sha256))
    if not found:
        return None
    _, url, sha256 = max(found)
    return read_features(url, sha256, cache)

"""Paths of the API server, and the type of what it answers; free of the client, which is slow to
import."""

from typing import Any
from urllib.parse import quote

Json = dict[str, Any]


def path_of(api_version: str, namespace: str, plural: str, *names: str) -> str:
    """The path of a collection of a namespace, or with `names` of an object and its subresource."""
    root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
    parts = ["namespaces", namespace, plural, *names]
    return "/".join([root, *(quote(part, safe="") for part in parts)])

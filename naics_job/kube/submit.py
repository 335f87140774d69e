"""Create a run: seen by the server's own checks first, and never twice.

The objects a run needs come before it and are left as they are where they exist. Those that carry
the name of the run belong to it: they go when it is deleted.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from naics_job.errors import NaicsJobError, TransientError
from naics_job.kube.api import MERGE, Cluster
from naics_job.kube.failures import ApiError, ConflictError, NotFoundError
from naics_job.kube.kinds import CANCELLED, CONTENT, Kind, dig, is_queued, kind_of
from naics_job.kube.kueue import set_active
from naics_job.kube.manifests import Manifests
from naics_job.kube.paths import Json, path_of
from naics_job.kube.state import FAILED, SUCCEEDED, state_of
from naics_job.observability.logs import event

log = logging.getLogger(__name__)
DRY = {"dryRun": "All"}
CLUSTER_WIDE = ("Namespace", "ClusterRole", "ClusterRoleBinding", "PriorityClass")
PLURALS = {  # the API's own plural of a kind is not always its lower-case name with an "s"
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "PriorityClass": "priorityclasses",
}
FIELD_MANAGER = "naics-embedder"


@dataclass(frozen=True)
class Submitted:
    """What became of a submission; `created` is false when the run was there already."""

    kind: Kind
    job: Json
    created: bool


def submit(
    cluster: Cluster, manifests: Manifests, say: Callable[[str], None], resume: bool = False
) -> Submitted:
    """Create the run, or find it.

    Args:
        cluster: where.
        manifests: with the run's name.
        say: is told what the server warns of and what is done.
        resume: continue a run that was cancelled.

    Raises:
        ConfigError: the server refuses a document; nothing is created then.
        TransientError: the server cannot be reached.
    """
    kind, job = manifests.kind, manifests.job
    _place(cluster, manifests)
    existing = _existing(cluster, kind, job)
    if existing is not None:
        return Submitted(kind, _attached(cluster, kind, existing, job, say, resume), created=False)
    others = [each for each in manifests.documents if each is not job]
    _dry_run(cluster, kind, [*others, job], say)
    made: list[Json] = []
    try:
        for document in others:
            if _create(cluster, document, say):
                made.append(document)
        created = cluster.send("POST", _collection(cluster, job), _manager(), job).body
    except ConflictError:  # another submission was quicker, or ours was not answered
        existing = _existing(cluster, kind, job)
        if existing is None:
            raise
        return Submitted(kind, _attached(cluster, kind, existing, job, say, False), created=False)
    except TransientError:
        raise  # it may have been created: submitting again finds out
    except NaicsJobError:
        _take_back(cluster, made, job)
        raise
    _own(cluster, kind, created, made)
    return Submitted(kind, created, created=True)


def _place(cluster: Cluster, manifests: Manifests) -> None:
    """Put every document into the namespace of the command."""
    for document in manifests.documents:
        found = document["metadata"].get("namespace")
        if document["kind"] in CLUSTER_WIDE:
            continue
        if found not in (None, cluster.namespace):
            raise ApiError(
                f"{_title(document)} is written for namespace {found}, not {cluster.namespace}",
                f"add --namespace {found}, or render the manifest for {cluster.namespace}",
            )
        document["metadata"]["namespace"] = cluster.namespace


def _existing(cluster: Cluster, kind: Kind, job: Json) -> Json | None:
    try:
        return cluster.get(kind.path(cluster.namespace, job["metadata"]["name"]))
    except NotFoundError:
        return None


def _attached(
    cluster: Cluster, kind: Kind, existing: Json, job: Json, say: Callable[[str], None],
    resume: bool,
) -> Json:  # fmt: skip
    """The run that is there, if it is the one that was meant."""
    name = existing["metadata"]["name"]
    was = dig(existing, "metadata", "annotations", CONTENT)
    if was is not None and was != job["metadata"]["annotations"][CONTENT]:
        raise ConflictError(
            f"{kind.name} {name} exists with other content",
            "leave out --name, so that the content gives the name; or use another one",
        )
    if not dig(existing, "metadata", "annotations", CANCELLED):
        phase = state_of(kind, existing, ()).phase
        ended = f" and has {phase.lower()}: --run-id ID makes another run of the same content"
        ended = ended if phase in (SUCCEEDED, FAILED) else ""
        say(f"{kind.name} {name} is there already{ended}; attached to it, nothing was created")
        return existing
    if not resume:
        say(f"{kind.name} {name} was cancelled; continue it with --resume")
        return existing
    patch: Json = {"metadata": {"annotations": {CANCELLED: None}}}
    queued = is_queued(existing)
    if not queued:
        patch |= kind.suspension(False)
    changed = cluster.send(
        "PATCH", kind.path(cluster.namespace, name), _manager(), patch, MERGE
    ).body
    if queued:
        set_active(cluster, existing, True)
    say(f"{kind.name} {name} goes on")
    return changed


def _dry_run(
    cluster: Cluster, kind: Kind, documents: Sequence[Json], say: Callable[[str], None]
) -> None:
    """Have the server check every document without keeping one."""
    warned: set[str] = set()
    for document in documents:
        try:
            answer = cluster.send(
                "POST", _collection(cluster, document), _manager() | DRY, document
            )
        except ConflictError:
            continue  # it exists, and is left as it is
        except NotFoundError as error:
            raise _unknown(cluster, kind, document, error) from error
        for warning in answer.warnings:
            if warning not in warned:
                warned.add(warning)
                say(f"warning of the API server, {_title(document)}: {warning}")


def _unknown(cluster: Cluster, kind: Kind, document: Json, error: NotFoundError) -> ApiError:
    """Why a POST found nothing to post to: the namespace, or the kind, is missing."""
    if f'namespaces "{cluster.namespace}"' in str(error.args[0]):
        hint = f"kubectl create namespace {cluster.namespace}, or give another --namespace"
        return ApiError(f"namespace {cluster.namespace} does not exist", hint)
    what = f"the cluster does not know {document['kind']} ({document['apiVersion']})"
    is_run = kind_of(document) is not None
    hint = kind.install if is_run else "install what defines it, or leave it out of the manifest"
    return ApiError(what, hint)


def _create(cluster: Cluster, document: Json, say: Callable[[str], None]) -> bool:
    """Create one object; returns whether it was not there."""
    try:
        cluster.send("POST", _collection(cluster, document), _manager(), document)
    except ConflictError:
        say(f"{_title(document)} exists, kept as it is")
        return False
    return True


def _own(cluster: Cluster, kind: Kind, job: Json, made: Sequence[Json]) -> None:
    """Let the objects of this run go with it. A run without that works all the same."""
    meta = job["metadata"]
    owner = {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "name": meta["name"],
        "uid": meta["uid"],
    }
    patch = {"metadata": {"ownerReferences": [owner]}}
    for document in made:
        name = document["metadata"]["name"]
        if document["kind"] not in CLUSTER_WIDE and name.startswith(meta["name"]):
            path = f"{_collection(cluster, document)}/{name}"
            try:
                cluster.send("PATCH", path, _manager(), patch, MERGE)
            except NaicsJobError as error:
                fields = {"object": _title(document), "error": str(error.args[0])}
                effect = "it stays when the run is deleted"
                event(log, logging.WARNING, "kube.not_owned", effect=effect, **fields)


def _take_back(cluster: Cluster, made: Sequence[Json], job: Json) -> None:
    """Delete what was created for a run that was then refused."""
    for document in made:
        name = document["metadata"]["name"]
        if name.startswith(job["metadata"]["name"]):
            try:
                cluster.send("DELETE", f"{_collection(cluster, document)}/{name}")
            except NaicsJobError as error:
                fields = {"object": _title(document), "error": str(error.args[0])}
                event(log, logging.WARNING, "kube.left_behind", **fields)


def _manager() -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER}


def _collection(cluster: Cluster, document: Json) -> str:
    kind, version = document["kind"], document["apiVersion"]
    run = kind_of(document)
    plural = run.plural if run else PLURALS.get(kind, f"{kind.lower()}s")
    path = path_of(version, cluster.namespace, plural)
    if kind in CLUSTER_WIDE:
        return path.replace(f"/namespaces/{cluster.namespace}/", "/")
    return path


def _title(document: Any) -> str:
    return f"{document['kind']} {document['metadata'].get('name', '')}"

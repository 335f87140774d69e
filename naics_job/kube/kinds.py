"""The kinds of object a run can be: where they live, what ends them, which pods are theirs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from naics_job.errors import ConfigError
from naics_job.kube.paths import Json, path_of

NAME = "app.kubernetes.io/name"
TRAINER = "naics-train"  # the value of NAME on everything of ours
INSTANCE = "app.kubernetes.io/instance"  # the Helm release
RUN = "naics.dev/run"
CANCELLED = "naics.dev/cancelled"  # annotation: when `job cancel` stopped the run
CONTENT = "naics.dev/content"  # annotation: digest of what was submitted
QUEUE = "kueue.x-k8s.io/queue-name"
HOOK = "helm.sh/hook"

JOBSET_NAME = "jobset.sigs.k8s.io/jobset-name"
OPERATOR = "install the Kubeflow training operator v1, or render another kind"


@dataclass(frozen=True)
class Kind:
    """One kind of run.

    Attributes:
        name: as in `kind:`.
        api_version: group and version.
        plural: in paths.
        pod_label: label of its pods whose value is the name of the run.
        suspend: path to the field that stops it without deleting it.
        container: that trains.
        install: what to do where the cluster does not know the kind.
    """

    name: str
    api_version: str
    plural: str
    pod_label: str
    suspend: tuple[str, ...]
    container: str
    install: str

    def path(self, namespace: str, *names: str) -> str:
        """The path of the collection in a namespace, or of one object."""
        return path_of(self.api_version, namespace, self.plural, *names)

    def is_suspended(self, job: Json) -> bool:
        """Whether the field says that no pod shall run."""
        return bool(dig(job, *self.suspend))

    def suspension(self, value: bool) -> Json:
        """The merge patch that stops or continues a run."""
        patch: Any = value
        for part in reversed(self.suspend):
            patch = {part: patch}
        assert isinstance(patch, dict)
        return patch

    def num_ranks(self, job: Json) -> int:
        """How many pods the run has when all are there."""
        spec = job.get("spec", {})
        if self.name == "PyTorchJob":
            replicas = spec.get("pytorchReplicaSpecs", {}).values()
            return sum(int(each.get("replicas", 1)) for each in replicas)
        if self.name == "TrainJob":
            return int(dig(spec, "trainer", "numNodes") or 1)
        if self.name == "JobSet":
            return sum(
                int(each.get("replicas", 1))
                * int(dig(each, "template", "spec", "parallelism") or 1)
                for each in spec.get("replicatedJobs", [])
            )
        return int(spec.get("parallelism", 1))


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "PyTorchJob",
            "kubeflow.org/v1",
            "pytorchjobs",
            "training.kubeflow.org/job-name",
            ("spec", "runPolicy", "suspend"),
            "pytorch",
            OPERATOR,
        ),
        Kind(
            "TrainJob",
            "trainer.kubeflow.org/v1alpha1",
            "trainjobs",
            JOBSET_NAME,
            ("spec", "suspend"),
            "node",
            "install Kubeflow Trainer v2, or render another kind",
        ),
        Kind(
            "JobSet",
            "jobset.x-k8s.io/v1alpha2",
            "jobsets",
            JOBSET_NAME,
            ("spec", "suspend"),
            "pytorch",
            "install JobSet, or render another kind",
        ),
        Kind(
            "Job",
            "batch/v1",
            "jobs",
            "job-name",
            ("spec", "suspend"),
            "pytorch",
            "this is no Kubernetes API server, or a very old one",
        ),
    )
}


def kind_of(document: Json) -> Kind | None:
    """The kind of a manifest when that is a run, else None."""
    kind = KINDS.get(str(document.get("kind")))
    return kind if kind and kind.api_version == document.get("apiVersion") else None


def kind_named(name: str) -> Kind:
    """The kind that an option names, in any letter case.

    Raises:
        ConfigError: there is none.
    """
    for kind in KINDS.values():
        if name.lower() == kind.name.lower():
            return kind
    raise ConfigError(f"--kind {name}: no such kind of run", f"use one of: {', '.join(KINDS)}")


def dig(value: Any, *keys: str) -> Any:
    """The value below `keys`, None where the way ends early."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def is_queued(job: Json) -> bool:
    """Whether the run is in a queue of Kueue."""
    return bool(dig(job, "metadata", "labels", QUEUE))


def is_hook(document: Json) -> bool:
    """Whether Helm runs the object beside a release."""
    return HOOK in (dig(document, "metadata", "annotations") or {})

"""The tests' own validators find what they are there to find."""

import copy
from collections.abc import Callable
from typing import Any

import custom_resources
import pod_security
import pytest
from helm_chart import find, template_of

Change = Callable[[dict[str, Any]], object]


def job() -> dict[str, Any]:
    return copy.deepcopy(find("PyTorchJob"))


def worker(item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = item["spec"]["pytorchReplicaSpecs"]["Worker"]
    return found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda item: item["spec"].update(nprocPerNode=2), "nprocPerNode: 2 is not of type"),
        (lambda item: worker(item).update(replicas="2"), "replicas: '2' is not of type"),
        (lambda item: worker(item).update(replica=2), "'replica' was unexpected"),
        (lambda item: item.pop("spec"), "'spec' is a required property"),
        (lambda item: item.update(apiVersion="kubeflow.org/v2"), "apiVersion: kubeflow.org/v2"),
        (
            lambda item: worker(item)["template"]["spec"]["containers"][0]["ports"].append(
                {"containerPort": 29400}
            ),
            "('29400', 'TCP') twice",
        ),
        (
            lambda item: worker(item)["template"]["spec"]["containers"][0]["resources"][
                "limits"
            ].update(memory="10Gx"),
            "does not match",
        ),
    ],
)
def test_a_definition_refuses(change: Change, message: str) -> None:
    item = job()
    assert custom_resources.violations(item) == []
    change(item)
    problems = custom_resources.violations(item)
    assert len(problems) == 1
    assert message.replace("'29400'", "29400") in problems[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec["securityContext"].pop("runAsNonRoot"), "runAsNonRoot"),
        (lambda spec: spec["securityContext"].update(runAsUser=0), "runAsUser"),
        (lambda spec: spec["securityContext"].pop("seccompProfile"), "seccompProfile"),
        (lambda spec: spec["securityContext"].update(sysctls=[{"name": "net.x"}]), "sysctls"),
        (lambda spec: spec.update(hostNetwork=True), "hostNetwork"),
        (lambda spec: spec["volumes"].append({"name": "x", "hostPath": {}}), "hostPath"),
        (lambda spec: context(spec).update(allowPrivilegeEscalation=True), "Escalation"),
        (lambda spec: context(spec).update(privileged=True), "privileged"),
        (lambda spec: context(spec).pop("capabilities"), "capabilities"),
        (lambda spec: context(spec)["capabilities"].update(add=["SYS_ADMIN"]), "SYS_ADMIN"),
        (lambda spec: context(spec).update(procMount="Unmasked"), "procMount"),
        (
            lambda spec: context(spec).update(seccompProfile={"type": "Unconfined"}),
            "seccompProfile",
        ),
        (lambda spec: spec["containers"][0]["ports"][0].update(hostPort=80), "hostPort"),
        (lambda spec: spec.update(initContainers=[{"name": "init"}]), "init: "),
    ],
)
def test_the_profile_refuses(change: Change, message: str) -> None:
    pod = copy.deepcopy(template_of("Job"))
    assert pod_security.violations(pod) == []
    change(pod["spec"])
    assert any(message in problem for problem in pod_security.violations(pod))


def context(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["containers"][0]["securityContext"]
    return found

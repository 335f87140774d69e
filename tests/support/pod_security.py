"""The restricted profile of the Kubernetes Pod Security Standards, for a pod or a pod template.

Rules: https://kubernetes.io/docs/concepts/security/pod-security-standards/ (baseline, restricted).
"""

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = {"name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral",
           "persistentVolumeClaim", "projected", "secret"}  # fmt: skip
SYSCTLS = {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
           "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"}  # fmt: skip
PROFILES = {"RuntimeDefault", "Localhost"}

Settings = Mapping[str, Any]


def violations(pod: Settings) -> list[str]:
    """What the restricted profile refuses in a pod; empty where it admits it."""
    spec = pod["spec"]
    found = list(_pod_rules(spec))
    for key, value in pod.get("metadata", {}).get("annotations", {}).items():
        if key.startswith("container.apparmor") and value == "unconfined":
            found.append("annotations: AppArmor is switched off")
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(group, []):
            rules = _container_rules(container, spec.get("securityContext", {}))
            found += [f"{container['name']}: {rule}" for rule in rules]
    return found


def _pod_rules(spec: Settings) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is shared"
    for volume in spec.get("volumes", []):
        if kinds := set(volume) - VOLUMES:
            yield f"volume {volume['name']} is a {', '.join(kinds)}"
    context = spec.get("securityContext", {})
    if outside := {entry["name"] for entry in context.get("sysctls", [])} - SYSCTLS:
        yield f"sysctls {outside}"
    yield from _common_rules(context)


def _common_rules(context: Settings) -> Iterator[str]:
    """Rules of a security context that count for a pod as for a container."""
    if context.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if context.get("runAsNonRoot") is False:
        yield "runAsNonRoot is false"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess is set"
    options = context.get("seLinuxOptions", {})
    if options.get("user") or options.get("role"):
        yield "seLinuxOptions has a user or a role"
    profile = context.get("seccompProfile", {}).get("type", "RuntimeDefault")
    if profile not in PROFILES:
        yield f"seccompProfile is {profile}"


def _container_rules(container: Settings, pod: Settings) -> Iterator[str]:
    context = container.get("securityContext", {})
    yield from _common_rules(context)
    if context.get("privileged"):
        yield "privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not dropped"
    if added := set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"capabilities {added} are added"
    if not context.get("runAsNonRoot", pod.get("runAsNonRoot")):
        yield "runAsNonRoot is not true"
    if not context.get("seccompProfile", pod.get("seccompProfile")):
        yield "seccompProfile is not set"
    if context.get("procMount", "Default") != "Default":
        yield "procMount is not Default"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort is used"

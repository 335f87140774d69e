"""templates/hooks/cancel-job.yaml: the old run saves and stops before the new one starts."""

from typing import Any

import pytest
from helm_chart import KINDS, hook, merged, objects, render, run_of

REPLACE: dict[str, Any] = {"run": {"replace": True}}


def cancel(values: dict[str, Any] | None = None) -> dict[str, Any]:
    items = objects(merged(REPLACE, values or {}))
    [job] = [item for item in items if item["kind"] == "Job" and hook(item)]
    return job


def test_it_runs_before_the_new_run_and_is_gone_after_it() -> None:
    notes = cancel()["metadata"]["annotations"]
    assert notes["helm.sh/hook"] == "pre-install,pre-upgrade,pre-rollback"
    assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert "helm.sh/resource-policy" not in notes


@pytest.mark.parametrize("kind", KINDS)
def test_it_cancels_every_run_of_the_release_but_this(kind: str) -> None:
    [container] = cancel({"kind": kind})["spec"]["template"]["spec"]["containers"]
    run = run_of(kind)["metadata"]["name"]
    assert container["args"][:-2] == [
        *("job", "cancel", "--namespace", "training", "--release", "demo", "--except", run),
        "--delete",
    ]


def test_it_waits_for_the_checkpoint() -> None:
    job = cancel({"config": {"launch": {"grace_s": 100}}})
    [container] = job["spec"]["template"]["spec"]["containers"]
    seconds = int(container["args"][-1])
    assert seconds > 105  # the pods' grace period
    assert job["spec"]["activeDeadlineSeconds"] == 3 * seconds  # and two tries more


def test_its_pod_has_its_own_account_and_token() -> None:
    spec = cancel()["spec"]["template"]["spec"]
    assert spec["serviceAccountName"] == "demo-naics-train-cancel"
    assert spec["automountServiceAccountToken"] is True


def test_it_is_no_run_itself() -> None:
    job = cancel()
    assert "naics.dev/run" not in job["metadata"]["labels"]
    assert "naics.dev/run" not in job["spec"]["template"]["metadata"]["labels"]


def test_without_replace_there_is_none() -> None:
    assert render()["hooks/cancel-job.yaml"].strip() == ""

"""templates/service.yaml: the names of a Job's pods."""

import pytest
from helm_chart import find, render, run_of, template_of


def test_it_names_pods_before_they_are_ready() -> None:
    service = find("Service", {"kind": "Job"})
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["metadata"]["name"] == run_of("Job")["metadata"]["name"]


def test_it_selects_the_pods_of_the_run() -> None:
    selector = find("Service", {"kind": "Job"})["spec"]["selector"]
    assert selector.items() <= template_of("Job")["metadata"]["labels"].items()
    assert "naics.dev/run" in selector  # not those of an earlier run


@pytest.mark.parametrize("kind", ["PyTorchJob", "JobSet", "TrainJob"])
def test_operators_make_their_own(kind: str) -> None:
    assert render({"kind": kind})["service.yaml"].strip() == ""

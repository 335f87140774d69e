"""templates/networkpolicy.yaml: DNS, the other pods, S3 and scrapes, and nothing else."""

from typing import Any

from helm_chart import find, merged, objects, render, template_of

POLICY: dict[str, Any] = {"networkPolicy": {"enabled": True}}


def spec(values: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = find("NetworkPolicy", merged(POLICY, values or {}))["spec"]
    return found


def ports(rule: dict[str, Any]) -> list[int]:
    return [entry["port"] for entry in rule.get("ports", [])]


def test_it_closes_both_directions_for_the_pods_of_the_run() -> None:
    assert spec()["policyTypes"] == ["Ingress", "Egress"]
    selected = spec()["podSelector"]["matchLabels"]
    assert selected.items() <= template_of("PyTorchJob", POLICY)["metadata"]["labels"].items()


def test_pods_of_the_run_reach_each_other_on_any_port() -> None:
    peers = [{"podSelector": spec()["podSelector"]}]
    assert {"from": peers} in spec()["ingress"]
    assert {"to": peers} in spec()["egress"]


def test_metrics_are_open_to_prometheus_and_to_the_test() -> None:
    [rule] = [entry for entry in spec({"gpu": {"count": 8}})["ingress"] if "ports" in entry]
    assert rule["ports"] == [{"port": 9400, "endPort": 9407}]
    namespace, test = rule["from"]
    expected = {"kubernetes.io/metadata.name": "monitoring"}
    assert namespace == {"namespaceSelector": {"matchLabels": expected}}
    [pod] = [item for item in objects(POLICY) if item["kind"] == "Pod"]
    assert test["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()


def test_egress_is_dns_peers_and_https() -> None:
    dns, _, https = spec()["egress"]
    assert (ports(dns), "to" in dns) == ([53, 53], False)
    assert ports(https) == [443]
    assert [entry["ipBlock"]["cidr"] for entry in https["to"]] == ["0.0.0.0/0", "::/0"]


def test_egress_may_be_narrowed_and_widened() -> None:
    extra = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 9000}]}
    values = {"networkPolicy": {"httpsCidrs": [], "extraEgress": [extra]}}
    assert spec(values)["egress"][2:] == [extra]


def test_events_need_the_api_server() -> None:
    added = [rule for rule in spec({"events": {"enabled": True}})["egress"] if 6443 in ports(rule)]
    assert len(added) == 1
    assert not [rule for rule in spec()["egress"] if 6443 in ports(rule)]


def test_without_metrics_nobody_scrapes() -> None:
    assert not [r for r in spec({"metrics": {"enabled": False}})["ingress"] if "ports" in r]


def test_it_is_left_out_by_default() -> None:
    assert render()["networkpolicy.yaml"].strip() == ""

"""Where the cluster is found, and what is said when it is not."""

from pathlib import Path

import pytest
import yaml
from fake_kube import FakeKube

from naics_job.errors import ConfigError
from naics_job.kube import account
from naics_job.kube.connect import account_client, connect


@pytest.fixture
def config(kube: FakeKube, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = kube.kubeconfig(tmp_path, namespace="ml")
    found = yaml.safe_load(path.read_text())
    found["contexts"].append({"name": "bare", "context": {"cluster": "test", "user": "test"}})
    path.write_text(yaml.safe_dump(found))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path


def test_the_namespace_is_that_of_the_context(config: Path) -> None:
    assert connect().namespace == "ml"
    assert connect("bare").namespace == "default"
    assert connect(namespace="mine").namespace == "mine"


def test_a_context_that_is_not_there(config: Path) -> None:
    with pytest.raises(ConfigError, match="no such context") as failure:
        connect("prod")
    assert "bare, test" in failure.value.hint


@pytest.mark.parametrize("text", ["a: [", "{}", "just text"])
def test_a_kubeconfig_that_is_damaged(text: str, config: Path) -> None:
    config.write_text(text)
    with pytest.raises(ConfigError, match="kubeconfig"):
        connect()


def test_a_kubeconfig_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/does/not/exist")
    with pytest.raises(ConfigError, match="names no file"):
        connect()


def test_in_a_pod_without_kubeconfig(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(account, "FOLDER", tmp_path)
    (tmp_path / "token").write_text("t")
    (tmp_path / "namespace").write_text("ml\n")
    assert account.pod_namespace() == "ml"
    with pytest.raises(ConfigError, match="service account cannot be used"):
        account_client()  # the client looks at the real place, where this machine has no token

"""What the built image is: its settings, its size, its layers, and that it is complete."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]
MAX_BYTES = 1_200_000_000  # unpacked, without CUDA and without weights
MAX_CODE_BYTES = 5_000_000
UNMET = """
import importlib.metadata as m, json
from packaging.requirements import Requirement
have = {d.name.lower().replace("_", "-"): d.version for d in m.distributions()}
unmet = []
for dist in m.distributions():
    for line in dist.requires or ():
        r = Requirement(line)
        if r.marker is None or r.marker.evaluate({"extra": ""}):
            version = have.get(r.name.lower().replace("_", "-").replace(".", "-"))
            if version is None or not r.specifier.contains(version, prereleases=True):
                unmet.append(f"{dist.name}: {line}")
print(json.dumps(unmet))
"""
UNLINKED = """
import json, subprocess, sysconfig
from pathlib import Path
lines = []
site = Path(sysconfig.get_path("purelib"))
for path in [path for name in ("pyarrow", "torch") for path in (site / name).rglob("*.so*")]:
    text = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
    lines += [f"{path}: {line.strip()}" for line in text.splitlines() if "not found" in line]
print(json.dumps(lines))
"""
UNCOMPILED = """
import os
from importlib.util import find_spec
names = ["torch", "lightning.pytorch", "naics_job.cli.app", "numpy", "kubernetes.client"]
names += ["transformers.models.bert.modeling_bert", "torch.distributed.run"]
print([name for name in names if not os.path.exists(find_spec(name).cached)])
"""
IMPORTS = """
import hf_xet, kubernetes.client, peft, pyarrow.dataset, pyarrow.parquet, s3fs, scipy.signal
import scipy.stats, tokenizers, torch.distributed.run, torch.nn.parallel, transformers
from torch.utils.tensorboard import SummaryWriter
from transformers import BertModel, RobertaModel, ModernBertModel
import torch; print(torch.cuda.is_available(), torch.ones(3, 3).matmul(torch.ones(3, 3)).sum())
"""


def python(engine: Any, image: str, code: str) -> str:
    """What a program in a container of the image prints."""
    command = ("podman", "run", "--rm", "--read-only", "--no-healthcheck", "--tmpfs", "/scratch")
    printed: str = engine.run(*command, "--entrypoint", "python", image, "-c", code)
    return printed.strip().splitlines()[-1]


def layers(engine: Any, image: str) -> dict[str, int]:
    """Digest and unpacked bytes of each layer, the lowest first."""
    manifest = json.loads(json.loads(engine.run("buildah", "inspect", image))["Manifest"])
    return {layer["digest"]: layer["size"] for layer in manifest["layers"]}


def test_its_settings(engine: Any, image: str) -> None:
    config = engine.inspect(image)["Config"]
    assert config["User"] == "10001:0"
    assert config["WorkingDir"] == "/scratch"
    assert config["Entrypoint"] == ["tini", "--", "naics-embedder"]
    assert config["Cmd"] == ["launch", "--", "train", "--ckpt-path", "auto"]
    assert config["StopSignal"] == "SIGTERM"
    variables = dict(pair.split("=", 1) for pair in config["Env"])
    assert variables["HOME"] == variables["TMPDIR"] == "/scratch"
    assert variables["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    labels = config["Labels"]
    prefix = "org.opencontainers.image"
    assert labels[f"{prefix}.version"] == "0.1.0"
    assert labels[f"{prefix}.created"].startswith("20")
    assert len(labels[f"{prefix}.revision"].removesuffix("-dirty")) == 40
    assert not {"PIP_CERT", "SSL_CERT_FILE", "PIP_INDEX_URL"} & variables.keys()


def test_it_is_small(engine: Any, image: str) -> None:
    size = engine.inspect(image)["Size"]
    assert size <= MAX_BYTES, layers(engine, image)


def test_it_is_complete(engine: Any, image: str) -> None:
    assert json.loads(python(engine, image, UNMET)) == []
    assert json.loads(python(engine, image, UNLINKED)) == []
    assert python(engine, image, IMPORTS) == "False tensor(27.)"


def test_its_bytecode_is_there(engine: Any, image: str) -> None:
    """Compiling it at each start would take 20 s: the root is read-only."""
    assert python(engine, image, UNCOMPILED) == "[]"


def test_a_change_of_code_changes_one_small_layer(
    engine: Any, base: str, image: str, code_copy: Path
) -> None:
    with (code_copy / "naics_job/__init__.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    changed = engine.build(base, "test-changed", code_copy)
    try:
        assert python(engine, changed, "import naics_job; print(naics_job.CHANGED)") == "True"
        old, new = layers(engine, image), layers(engine, changed)
        assert list(new)[:-1] == list(old)[:-1]
        assert list(new)[-1] != list(old)[-1]
        assert list(new.values())[-1] < MAX_CODE_BYTES
    finally:
        engine.run("buildah", "rmi", changed)


def test_weights_can_be_baked_in(engine: Any, base: str, image: str, weights: Path) -> None:
    baked = engine.build(base, "test-weights", WEIGHTS=str(weights))
    try:
        code = (
            "from transformers import AutoModel;"
            "print(AutoModel.from_pretrained('/opt/naics/weights').config.hidden_size)"
        )
        assert python(engine, baked, code) == "32"
        assert python(engine, image, "import os; print(os.listdir('/opt/naics/weights'))") == "[]"
    finally:
        engine.run("buildah", "rmi", baked)

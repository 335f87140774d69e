"""Make an environment smaller by 40 percent, and compile what is left of it.

Names are given, not patterns over everything: `torch.testing`, for one, is loaded by torch itself.
What is rarely loaded keeps its source and loses only its bytecode, which costs a second where it is
loaded after all.
"""

import compileall
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

UNUSED = (  # below site-packages
    "grpc/_cython/*.so",  # TensorBoard's server; what writes its files does not load it
    "kubernetes/aio",  # the client for asyncio; ours is kubernetes.client
    "nvidia/*/include",
    "nvidia/*/lib/*.a",
    "nvidia/*/lib/cmake",
    "pyarrow/include*",
    "pyarrow/src",
    "pyarrow/tests",
    "pyarrow/*.pyx",
    "pyarrow/*_flight*.so*",  # Arrow Flight, and Arrow's own S3: we read by fsspec
    "pyarrow/*_s3*.so*",
    "pyarrow/libarrow_python.so",  # copies of libarrow_python.so.N, the name that is loaded
    "pyarrow/libarrow_python.so.*.*",
    "tensorboard_data_server/bin",
    "tensorboard/webfiles.zip",
    "torch/bin/protoc*",
    "torch/bin/test_*",
    "torch/include",
    "torch/lib/*.a",
    "torch/lib/*_test.so",
    "torch/lib/libbackend_with_compiler.so",
    "torch/share",
    "torch/test",
    "transformers/models/*/modular_*.py",  # what the modeling files are generated from
)
TESTED = ("networkx", "numpy", "scipy", "sympy", "tensorboard")  # tests/ at any depth
AWS_SERVICES = ("s3", "signin", "sso", "sso-oidc", "sts")  # storage, and how credentials are got
SYMBOLS = ("torch/lib/lib*.so", "pyarrow/*.so*", "tokenizers/*.so", "hf_xet/*.so")
SOURCES = (".c", ".cpp", ".cuh", ".h", ".hpp", ".pxd", ".pyi", ".pyx")  # for compilers and editors
NOT_COMPILED = re.compile(
    r"/(transformers/models/(?!(auto|bert|distilbert|mpnet|roberta|xlm_roberta)/)\w+/"
    r"|torch/(_inductor|ao|onnx|testing/_internal)/"
    r"|sympy/(combinatorics|diffgeom|holonomic|integrals|parsing|physics|plotting|stats|vector)/"
    r"|lightning_fabric/|networkx/|pygments/lexers/|pytorch_lightning/|setuptools/|torchgen/"
    r"|werkzeug/)"
)


def unused(site: Path) -> Iterator[Path]:
    """What to remove of the site-packages folder `site`."""
    for pattern in UNUSED:
        yield from site.glob(pattern)
    for package in TESTED:
        yield from [path for path in (site / package).rglob("tests") if path.is_dir()]
    yield from (p for p in site.glob("botocore/data/*/") if p.name not in AWS_SERVICES)
    for path in list(site.rglob("*")):
        if path.suffix in SOURCES and path.relative_to(site).parts[0] != "triton":
            yield path  # Triton reads its own while it works


def remove(path: Path) -> None:
    """Remove a file, or a folder that may be gone with the one around it."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> int:
    """Work on the environment that the first argument names."""
    (site,) = Path(sys.argv[1]).glob("lib/python*/site-packages")
    for path in unused(site):
        remove(path)
    libraries = [path for pattern in SYMBOLS for path in site.glob(pattern)]
    if libraries:
        subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)
    # Without a look at the source: the files of an image do not change, their times may.
    compileall.compile_dir(
        site,
        rx=NOT_COMPILED,
        quiet=2,
        workers=0,
        invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
    )  # a few files of packages are templates, and no Python
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Split requirements.lock into the parts that become layers of the image, one file each.

Only Python's own library is used: this runs before anything is installed.
"""

import argparse
import re
import sys
from pathlib import Path

# What only torch for CUDA depends on; nvidia-ml-py is a dependency of this project itself.
CUDA = re.compile(r"(?!nvidia-ml-py)(nvidia|cuda)-[a-z0-9-]+|triton")
FLAVORS = ("cuda", "cpu")


def blocks_by_name(lock: str) -> dict[str, str]:
    """Each requirement of `lock` with its hashes."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return {block.partition("==")[0].lower(): block for block in blocks if "==" in block}


def split(lock: str, flavor: str, torch_sha256: str = "") -> dict[str, str]:
    """The requirements of each layer.

    torch without CUDA is another file than the one that the lock knows: it is pinned to the
    version, and to a digest if one is given.

    Args:
        lock: content of requirements.lock.
        flavor: cuda or cpu.
        torch_sha256: of the wheel of torch without CUDA; empty: it is not checked.
    """
    blocks = blocks_by_name(lock)
    torch = blocks.pop("torch")
    cuda = [blocks.pop(name) for name in list(blocks) if CUDA.fullmatch(name)]
    if flavor == "cpu":
        version = re.match(r"torch==([0-9.]+)", torch)
        assert version is not None
        digest = f" --hash=sha256:{torch_sha256}" if torch_sha256 else ""
        torch, cuda = f"torch=={version[1]}+cpu{digest}\n", []
    return {"cuda": "".join(cuda), "torch": torch, "libraries": "".join(blocks.values())}


def main() -> int:
    """Write cuda.txt, torch.txt and libraries.txt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lock", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--flavor", choices=FLAVORS, required=True)
    parser.add_argument("--torch-sha256", default="")
    options = parser.parse_args()
    lock = options.lock.read_text(encoding="utf-8")
    for name, text in split(lock, options.flavor, options.torch_sha256).items():
        (options.folder / f"{name}.txt").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Check that requirements.lock fits pyproject.toml, or stamp it with what it was made from.

The check needs no network: the stamp is a digest of `[project] dependencies`, every direct
dependency must be pinned to a version its specifier allows, every pin must carry hashes, and no
address of a registry may be in the file.
"""

import argparse
import hashlib
import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
STAMP = "# made by `make lock` from [project] dependencies with sha256 "
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)")


def dependencies() -> list[str]:
    """The direct dependencies as written in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted(project["dependencies"])


def stamp() -> str:
    """First line of a lock that was made from today's dependencies."""
    return STAMP + hashlib.sha256("\n".join(dependencies()).encode()).hexdigest()


def problems(text: str) -> list[str]:
    """What is wrong with the lock `text`; empty when it fits."""
    found = []
    if text.partition("\n")[0] != stamp():
        found.append("it was not made from the dependencies of today's pyproject.toml")
    if "://" in text:
        found.append("it names an address")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    pins: dict[str, str] = {}
    for block in blocks:
        pin = PIN.match(block)
        if pin is None or "--hash=sha256:" not in block:
            found.append(f"not a pin with hashes: {block.splitlines()[0]}")
        else:
            pins[canonicalize_name(pin[1])] = pin[2]
    for line in dependencies():
        wanted = Requirement(line)
        version = pins.get(canonicalize_name(wanted.name))
        if version is None or not wanted.specifier.contains(version):
            found.append(f"{line} is not met: {version or 'missing'}")
    return found


def main() -> int:
    """Check, or write the stamp."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stamp", action="store_true", help="write the stamp into the first line")
    if parser.parse_args().stamp:
        body = LOCK.read_text(encoding="utf-8")
        if body.startswith(STAMP):
            body = body.partition("\n")[2]
        LOCK.write_text(f"{stamp()}\n{body}", encoding="utf-8")
    found = problems(LOCK.read_text(encoding="utf-8"))
    for problem in found:
        print(f"requirements.lock: {problem}", file=sys.stderr)
    if found:
        print("  hint: run `make lock` and commit the result", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

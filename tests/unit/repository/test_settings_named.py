"""Settings that documents, benchmarks and examples name are settings."""

import re
from pathlib import Path

import pytest

from naics_job.config.load import load_config

ROOT = Path(__file__).parents[3]
PLACES = ("README.md", "docs/**/*.md", "benchmarks/**/*.*", "helm/**/*.md", "conf/**/*.yaml")
FILES = sorted({path for each in PLACES for path in ROOT.glob(each) if path.is_file()})
NAMED = re.compile(r"\b(checkpoint|launch|storage|metrics|curriculum|loss)\.([a-z]\w*)\b")
NO_SETTINGS = {"py", "md", "sh", "json", "jsonl", "yaml"}  # ends of file names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_named_is_a_setting(path: Path) -> None:
    config = load_config().config
    named = {match.groups() for match in NAMED.finditer(path.read_text(errors="replace"))}
    unknown = [
        f"{section}.{name}"
        for section, name in sorted(named)
        if name not in NO_SETTINGS and not hasattr(getattr(config, section), name)
    ]
    assert unknown == []

"""data.labelled_texts: a run asks them for their codes, and its record says which they were.

Those of codes that are held out are not asked.
"""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from naics_job.data.query_pool import QueryDraw, QuerySampler
from naics_job.data.sampler import RowDraws

pytestmark = pytest.mark.integration
ROWS = (
    ("Farming of Corn and other Grain", "111150"),  # of the test families
    ("Potato and Melon Production", "111211"),
    ("Orange Groves under Cover", "111310"),
    ("Mushroom Nursery", "1114"),  # of another level
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled") / "own.csv"
    lines = ["text,code", *(f"{text},{code}" for text, code in ROWS)]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The rows of the user's texts that training has asked, the first being 0."""
    original, found = QuerySampler.draw, set[int]()

    def draw(self: QuerySampler, draws: RowDraws) -> QueryDraw:
        drawn = original(self, draws)
        own = drawn.texts[self.pool.is_labelled(drawn), 0]
        found.update((own - self.pool.first_labelled).tolist())
        return drawn

    monkeypatch.setattr(QuerySampler, "draw", draw)
    return found


def test_they_are_trained_on_and_recorded(
    run_tiny: Any, file: Path, asked: set[int], tmp_path: Path
) -> None:
    short = "training.trainer.max_epochs=1"
    out = run_tiny(tmp_path, f"data.labelled_texts={file}", "data_loader.val_split=0", short)
    assert out.error is None
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert out.record["labelled_texts"] == {"url": str(file), "sha256": sha256, "rows": "4"}
    assert out.payload["provenance"]["labelled_digest"] == sha256
    assert asked == {1, 2, 3}


def test_how_often_they_are_asked_is_a_setting(
    run_tiny: Any, file: Path, asked: set[int], tmp_path: Path
) -> None:
    short = (f"data.labelled_texts={file}", "training.trainer.max_epochs=1")
    run_tiny(tmp_path, *short, "data_loader.queries.labelled=0")
    assert asked == set()


def test_they_say_what_their_codes_are(run_tiny: Any, file: Path, tmp_path: Path) -> None:
    short = ("training.trainer.max_epochs=1", "data_loader.queries.labelled=0")
    without = run_tiny(tmp_path / "without", *short)
    own = (*short, f"data.labelled_texts={file}")
    silent = run_tiny(tmp_path / "silent", *own, "model.labelled_weight=0")
    heard = run_tiny(tmp_path / "heard", *own)
    assert without.record["labelled_texts"] == {}
    # to rounding: the frozen pass encodes the titles in other blocks
    assert silent.losses == pytest.approx(without.losses, rel=1e-6)
    assert heard.losses != pytest.approx(without.losses, rel=1e-4)

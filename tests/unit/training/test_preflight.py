"""What is refused or said before the first step."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from naics_job.config.length import RunLength
from naics_job.config.load import load_config
from naics_job.curriculum.schedule import Borders, Curriculum
from naics_job.data.contracts import CHANNELS
from naics_job.data.segments import Segments
from naics_job.data.tokens import SpecialTokens
from naics_job.errors import ConfigError, DataError
from naics_job.training.module import NaicsModule
from naics_job.training.preflight import check_run, num_cut_texts, warn_of_plan

STEPS_PER_EPOCH = 10


def warnings_of(caplog: pytest.LogCaptureFixture, *overrides: str, planned: int = 30) -> list[str]:
    """Problems told for a run of three epochs whose borders were made for `planned` steps."""
    config = load_config(None, "smoke", list(overrides)).config
    borders = Borders.planned(config.curriculum, planned, None)
    fake: Any = SimpleNamespace(config=config)
    fake.curriculum = Curriculum(config.curriculum, config.sampling, borders)
    fake.lora_first_step = NaicsModule.lora_first_step.fget(fake)  # type: ignore[attr-defined]
    caplog.clear()
    warn_of_plan(config, fake, RunLength(STEPS_PER_EPOCH, 3 * STEPS_PER_EPOCH))
    return [str(vars(record)["fields"]["problem"]) for record in caplog.records]


def test_a_sound_plan_is_not_commented(caplog: pytest.LogCaptureFixture) -> None:
    assert warnings_of(caplog) == []


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["curriculum.fn_curriculum_start_epoch=3"], ["phase 3 never clusters"]),
        (["curriculum.phase_mode=two_phase"], ["adapters never train", "start_phase=3"]),
        (["curriculum.phase2_end=1"], ["phase 3", "has no step", "adapters never train"]),
        (["curriculum.phase2_end=0.4", "model.lora.start_phase=2"], ["phase 2", "has no step"]),
        (["sampling.strategy=sans_static"], ["sans_static"]),
    ],
)
def test_what_will_not_happen_is_said(
    overrides: list[str], words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    text = " ".join(warnings_of(caplog, *overrides))
    for word in words:
        assert word in text


def test_a_run_that_ends_before_its_phases_says_so(caplog: pytest.LogCaptureFixture) -> None:
    text = " ".join(warnings_of(caplog, planned=100))
    assert "phase 2 (geometric refinement) begins at step 40, but the run ends after 30" in text
    assert "adapters never train" in text


def store(limit: int) -> Any:
    """Two codes: titles of 2 and 8 tokens, three index items of 3, 6 and 7, no exclusion."""
    channels = {"title": ([2, 8], [0, 1, 2]), "examples": ([3, 6, 7], [0, 2, 3])}
    channels |= {"description": ([4, 4, 4], [0, 2, 3]), "excluded": ([], [0, 0, 0])}
    segments = {
        name: Segments(
            ids=np.zeros(sum(lengths), dtype=np.int32),
            token_start=np.cumsum([0, *lengths]),
            segment_start=np.array(starts),
        )
        for name, (lengths, starts) in channels.items()
    }
    tokens: Any = SimpleNamespace(segments=segments, special=SpecialTokens([2], [3]))
    tokens.max_tokens = dict.fromkeys(CHANNELS, limit)
    return tokens


def run_check(metric: str, texts: list[list[str]], validation: int = 2, limit: int = 99) -> None:
    early = ("training.early_stopping.enabled=true", f"training.early_stopping.metric={metric}")
    config = load_config(None, "smoke", early).config
    codes = [str(number) for number in range(len(texts))]
    data: Any = SimpleNamespace(taxonomy=SimpleNamespace(codes=codes), texts={"title": texts})
    splits = SimpleNamespace(validation=np.zeros(validation), test=np.zeros(2))
    datamodule: Any = SimpleNamespace(splits=splits)
    check_run(config, data, store(limit), datamodule)


def test_early_stopping_needs_a_metric_that_exists() -> None:
    run_check("heldout/parent@1", [["a"]])
    with pytest.raises(ConfigError, match="'heldout/parent' is not evaluated") as caught:
        run_check("heldout/parent", [["a"]])
    assert "all/map" in caught.value.hint
    with pytest.raises(ConfigError, match="not evaluated"):  # codes for the test do not choose
        run_check("heldout/parent@1", [["a"]], validation=0)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (10, {"title": 0, "description": 0, "examples": 0, "excluded": 0}),
        (9, {"title": 1, "description": 1, "examples": 0, "excluded": 0}),  # 8 and two around them
        (8, {"title": 1, "description": 1, "examples": 1, "excluded": 0}),
        (4, {"title": 1, "description": 2, "examples": 3, "excluded": 0}),
    ],
)
def test_texts_that_are_cut_are_counted(limit: int, expected: dict[str, int]) -> None:
    tokens = store(limit)
    assert {channel: num_cut_texts(tokens, channel) for channel in CHANNELS} == expected


def test_texts_that_are_cut_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    run_check("all/map", [["a"]], limit=10)
    assert caplog.records == []
    run_check("all/map", [["a"]], limit=8)
    (told,) = caplog.records
    fields = vars(told)["fields"]
    assert (fields["title"], fields["examples"]) == (1, 1)
    assert "max_tokens" in fields["advice"]


def test_a_code_without_any_text_is_refused() -> None:
    with pytest.raises(DataError, match="code 1 has no text"):
        run_check("all/map", [["a"], []])

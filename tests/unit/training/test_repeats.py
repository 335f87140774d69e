"""Several trainings from one start."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from naics_job.config.schema import Config
from naics_job.model.encoder import TextEncoder
from naics_job.training import repeats
from naics_job.training.build import Inputs, Job
from naics_job.training.final import Final
from naics_job.training.repeats import score_splits, trained
from naics_job.training.scoring import Scorecard, asked_tokens, read_texts, score

STEPS = ("training.trainer.max_epochs=-1", "training.trainer.max_steps=3")


@pytest.fixture
def inputs(job_settings: Callable[..., Config], job_inputs: Inputs) -> Inputs:
    """With an encoder of its own."""
    return replace(job_inputs, encoder=TextEncoder(job_inputs.base, job_settings().model))


def test_what_is_measured_is_the_trained_adapter(
    job_settings: Callable[..., Config], inputs: Inputs
) -> None:
    config = job_settings(*STEPS, "model.lora.start_phase=1", "training.lora_learning_rate=0.1")
    start = {name: value.clone() for name, value in inputs.encoder.state_dict().items()}
    with trained(config, inputs) as (job, final):
        assert job.module.step_encoder.adapters_trained()
        tokens = asked_tokens(job, ["corn and wheat"])
        change = read_texts(job, tokens).text - read_texts(job, tokens, frozen=True).text
        assert change.abs().max() > 1e-3
        assert final.report.all["ndcg@10"] > 0
    for name, value in inputs.encoder.state_dict().items():
        assert torch.equal(value, start[name]), name  # the next one starts from the same adapter


def test_splits_are_scored_with_the_trained_adapter(
    job_settings: Callable[..., Config], inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, bool]] = []

    def watched(job: Job, final: Final) -> Scorecard:
        seen.append((job.module.config.seed, job.module.step_encoder.adapters_trained()))
        return score(job, final)

    monkeypatch.setattr(repeats, "score", watched)
    monkeypatch.setattr(repeats, "build_inputs", lambda config: inputs)
    config = job_settings(*STEPS, "model.lora.start_phase=1", "seed=5")
    cards = score_splits(config, 2)
    assert seen == [(5, True), (6, True)]
    assert cards[0].metrics["heldout"] != cards[1].metrics["heldout"]

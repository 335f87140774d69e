"""Now and then: what each loss term and each mechanism of the curriculum has in the gradient."""

import math

import lightning.pytorch as pl
import torch

from naics_job.curriculum.plan import NegativePlanner
from naics_job.curriculum.schedule import PhaseState
from naics_job.data.query_pool import QueryDraw
from naics_job.loss.objective import LossInputs, Objective
from naics_job.loss.shares import Outputs, gradient_shares
from naics_job.training.encoding import EncodedStep

EVERY_STEPS = 50  # at least: a measurement takes nearly as long as a step on cached features
TERM, MECHANISM = "train/share/", "train/mechanism/"  # begin of the logged names
Measured = dict[str, float]  # share by logged name


def is_measured(trainer: pl.Trainer, step: int) -> bool:
    """Whether the `step`-th step is one: the first that is logged, and each some 50 after it."""
    logged: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    if not logged:
        return False
    every = logged * math.ceil(EVERY_STEPS / logged)
    return (step - logged) % every == 0


def measure(
    objective: Objective,
    inputs: LossInputs,
    terms: dict[str, torch.Tensor],
    encoded: EncodedStep,
    planner: NegativePlanner,
    asked: QueryDraw,
    state: PhaseState,
) -> Measured:
    """Shares of the newest step, by the name they are logged under; changes nothing.

    The same on every process, as all of them compute the losses of all rows.
    """
    device, bank = inputs.texts.log_weight.device, planner.bank
    known = bank.filled & bank.allowed
    log_weights = {
        name: torch.from_numpy(weights).to(device, torch.float32).masked_fill(~known, -math.inf)
        for name, weights in planner.text_weights_without(asked.answers, state).items()
    }
    at = Outputs(encoded.points, encoded.queries.text, encoded.codes.curvature)
    found = gradient_shares(objective, inputs, terms, log_weights, at)
    named = {
        prefix + name: share
        for prefix, shares in zip((TERM, MECHANISM), found, strict=True)
        for name, share in shares.items()
    }
    if not named:
        return {}
    values = torch.stack(list(named.values())).tolist()  # the one wait for the device
    return dict(zip(named, values, strict=True))

"""No setting that shapes training is silently without effect: each one changes the loss."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration
# Twelve epochs of one step: phase 2 and LoRA from step 4, phase 3 with clusters from step 8. The
# batch is small, as every code of a step is a negative of all its anchors.
SHORT = (
    "data_loader.batch_size=6",
    "training.trainer.limit_train_batches=1",
    "training.trainer.max_epochs=12",
    "curriculum.phase1_end=0.33",
    "curriculum.phase2_end=0.66",
    "model.eval_every_n_epochs=12",
    "checkpoint.max_lost_steps=200",
    "model.lora.start_phase=2",
)
FROM_THE_START = 0
PHASE_2, PHASE_3 = 4, 8
# What is set -> the step before which it may not act. Not here: curriculum.exclusion_share,
# model.example_dropout and data_loader.queries.* of texts that are no titles, as the bundled table
# has neither exclusions nor index items (tests/unit/data/test_negatives.py and test_query_pool.py
# have some), and curriculum.fn_max_iterations, as clusters of 60 codes converge at once
# (test_false_negatives.py).
SETTINGS = {
    "curriculum.phase_mode=two_phase": PHASE_2,  # its hard share grows over a longer phase
    "curriculum.tree_distance_alpha=0": FROM_THE_START,
    "curriculum.sibling_distance_threshold=0": FROM_THE_START,
    "curriculum.router_mix_ratio=0": PHASE_2,
    "curriculum.anneal.shape=linear": 1,
    "curriculum.anneal.hard_share_start=1": PHASE_2,
    "curriculum.anneal.hard_share_end=0": PHASE_2 + 1,
    "curriculum.anneal.tree_distance_alpha_end=9": 1,
    "curriculum.fn_num_clusters=2": PHASE_3,
    "curriculum.fn_curriculum_start_epoch=10": PHASE_3,
    "curriculum.fn_curriculum_start_epoch=null": PHASE_3,
    "curriculum.fn_cluster_every_n_epochs=3": PHASE_3 + 1,
    "curriculum.phase3_end=0.8": PHASE_3 + 1,
    "sampling.strategy=sans_static": FROM_THE_START,
    "sampling.positives.sibling=0": FROM_THE_START,
    "false_negatives.strategy=attract": PHASE_3,
    "false_negatives.strategy=hybrid": PHASE_3,
    "loss.learn_curvature=true": 1,
    "loss.temperature=0.1": FROM_THE_START,
    "loss.base_margin=2": FROM_THE_START,
    "loss.contrastive_weight=1": FROM_THE_START,
    "loss.hierarchy_weight=1": FROM_THE_START,
    "loss.rank_order_weight=5": FROM_THE_START,
    "loss.rank_temperature=1": FROM_THE_START,
    "loss.code_contrastive_weight=1": FROM_THE_START,
    "loss.distillation_weight=5": PHASE_2,
    "loss.radius_reg_weight=0": FROM_THE_START,
    "loss.load_balancing_coef=1": FROM_THE_START,
    "model.moe.num_experts=2": FROM_THE_START,
    "model.moe.top_k=1": FROM_THE_START,
    "model.moe.hidden_dim=8": 1,
    "model.moe.dropout=0": 1,
    "model.moe.balance_rate=1": 1,
    "model.channel_dropout=0.5": FROM_THE_START,
    "model.feature_dropout=0.5": FROM_THE_START,
    "model.offset_dropout=0": 1,
    "model.tree_dim=8": FROM_THE_START,
    "model.lexical_dim=4": FROM_THE_START,
    "model.lexical_dim=0": FROM_THE_START,
    "model.lora.start_phase=1": FROM_THE_START,
    "model.lora.start_phase=3": PHASE_2,
    "model.lora.r=1": PHASE_2 + 1,
    "model.lora.alpha=32": PHASE_2 + 1,
    "model.lora.dropout=0.8": PHASE_2 + 1,
    "model.lora.target_modules=[query]": PHASE_2,
    "training.learning_rate=1e-4": 1,
    "training.scale_learning_rate=1e-4": 1,
    "training.lora_learning_rate=1e-5": PHASE_2 + 1,
    "training.weight_decay=10": 1,
    "training.warmup_steps=0": 1,
    "training.use_warmup_cosine=false": 2,
    "training.min_learning_rate_ratio=1": 2,
    "training.trainer.gradient_clip_val=0.01": 1,
    "data_loader.num_negatives=2": FROM_THE_START,
    "data_loader.tokenization.max_tokens.title=4": FROM_THE_START,
    "data_loader.queries.per_anchor=1": FROM_THE_START,
    "data_loader.val_split=0.3": FROM_THE_START,
    "data_loader.test_split=0.3": FROM_THE_START,
    "seed=7": FROM_THE_START,
}


@pytest.fixture(scope="module")
def default(run_tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    """Losses without any of the settings."""
    losses: dict[int, float] = run_tiny(tmp_path_factory.mktemp("default"), *SHORT).losses
    assert len(losses) == 12
    return losses


@pytest.mark.parametrize(("setting", "first"), SETTINGS.items(), ids=SETTINGS)
def test_it_changes_the_loss(
    setting: str, first: int, default: dict[int, float], run_tiny: Any, tmp_path: Path
) -> None:
    out = run_tiny(tmp_path, *SHORT, setting)
    assert out.error is None
    losses = out.losses
    assert losses.keys() == default.keys()
    changed = [step for step in default if losses[step] != default[step]]
    assert changed
    assert changed[0] >= first


def test_the_temperature_of_codes_acts_with_their_term(run_tiny: Any, tmp_path: Path) -> None:
    on = "loss.code_contrastive_weight=1"
    warm = run_tiny(tmp_path / "warm", *SHORT, on, "loss.code_temperature=1")
    cold = run_tiny(tmp_path / "cold", *SHORT, on, "loss.code_temperature=0.1")
    assert warm.losses[0] != cold.losses[0]


def test_the_curvature_alone_leaves_the_losses_as_they_are(
    default: dict[int, float], run_tiny: Any, tmp_path: Path
) -> None:
    """Lengths start in units of 1 / sqrt(c), and every loss reads distances in that unit."""
    out = run_tiny(tmp_path, *SHORT, "loss.curvature=2")
    assert out.losses != default
    assert out.losses == pytest.approx(default, rel=1e-3)
    assert out.record["health"]["on_manifold"] is True

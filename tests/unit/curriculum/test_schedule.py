"""SADC borders, phases, annealing, clustering epochs and pre-flight warnings."""

from dataclasses import replace

import pytest

from naics_job.config.data_schema import PositiveWeights, SamplingConfig, SansStaticConfig
from naics_job.config.length import RunLength
from naics_job.config.model_schema import AnnealConfig
from naics_job.config.train_schema import CurriculumConfig
from naics_job.curriculum.schedule import Borders, Curriculum, Phase

CONFIG = CurriculumConfig(
    phase_mode="three_phase",
    phase1_end=0.3,
    phase2_end=0.7,
    phase3_end=1.0,
    rescale=False,
    tree_distance_alpha=2.0,
    sibling_distance_threshold=2,
    exclusion_share=0.1,
    router_mix_ratio=0.35,
    anneal=AnnealConfig(
        shape="linear", hard_share_start=0.2, hard_share_end=0.8, tree_distance_alpha_end=1.0
    ),
    fn_curriculum_start_epoch=0,
    fn_cluster_every_n_epochs=2,
    fn_num_clusters=4,
    fn_max_iterations=5,
)
SAMPLING = SamplingConfig(
    strategy="sadc",
    positives=PositiveWeights(parent=1, ancestor=1, child=1, descendant=1, sibling=1),
    sans_static=SansStaticConfig(near_max_distance=4, near_share=0.5),
)


def curriculum(total: int = 100, **changes: object) -> Curriculum:
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    return Curriculum(config, SAMPLING, Borders.planned(config, total, None))


@pytest.mark.parametrize(
    ("total", "expected"), [(10, (3, 7, 10)), (100, (30, 70, 100)), (7, (3, 5, 7)), (1, (1, 1, 1))]
)
def test_borders_are_the_first_step_at_or_above_each_fraction(
    total: int, expected: tuple[int, int, int]
) -> None:
    assert Borders.planned(CONFIG, total, None).steps == expected


def test_phase_follows_progress_and_not_rounding() -> None:
    sadc = curriculum(1000)
    for step in range(1000):
        progress = step / 1000
        expected = 1 if progress < 0.3 else 2 if progress < 0.7 else 3
        state = sadc.at(step)
        assert state.phase == expected
        assert state.progress == progress
        assert state.mitigation == (expected == 3)


def test_training_past_the_planned_end_stays_in_the_last_phase() -> None:
    assert curriculum().at(140).phase is Phase.MITIGATION
    assert curriculum(phase_mode="two_phase").at(140).phase is Phase.GEOMETRIC
    assert curriculum().at(140).progress == curriculum().at(140).phase_progress == 1.0
    assert curriculum(phase3_end=0.8).at(100).phase is Phase.GEOMETRIC
    one_phase = Curriculum(CONFIG, SAMPLING, Borders(10, 1.0, 1.0, 1.0, two_phase=False))
    assert one_phase.at(10).phase is Phase.STRUCTURAL


def test_two_phase_never_mitigates() -> None:
    sadc = curriculum(phase_mode="two_phase")
    assert [int(sadc.at(step).phase) for step in (0, 29, 30, 70, 99)] == [1, 1, 2, 2, 2]
    assert not any(sadc.at(step).mitigation for step in range(120))
    assert sadc.first_step(Phase.MITIGATION) is None
    assert sadc.at(65).phase_progress == pytest.approx(0.5)


def test_mitigation_ends_where_phase3_end_says() -> None:
    sadc = curriculum(phase3_end=0.8)
    assert [int(sadc.at(step).phase) for step in (69, 70, 79, 80, 99)] == [2, 3, 3, 2, 2]
    assert not sadc.at(80).mitigation
    assert sadc.at(80).hard_share == sadc.at(79).hard_share == 0.8
    assert sadc.at(90).phase_progress == pytest.approx(0.5)


def test_scalars_are_annealed_within_their_phase() -> None:
    sadc = curriculum()
    assert sadc.at(0).tree_distance_alpha == 2.0
    assert sadc.at(15).tree_distance_alpha == pytest.approx(1.5)
    assert sadc.at(30).tree_distance_alpha == 1.0
    assert sadc.at(29).hard_share == 0.0
    assert sadc.at(30).hard_share == pytest.approx(0.2)
    assert sadc.at(50).hard_share == pytest.approx(0.5)
    assert sadc.at(70).hard_share == pytest.approx(0.8)


def test_cosine_is_slow_at_both_ends() -> None:
    cosine = curriculum(anneal=replace(CONFIG.anneal, shape="cosine"))
    line = curriculum()
    assert cosine.at(34).hard_share < line.at(34).hard_share
    assert cosine.at(50).hard_share == pytest.approx(0.5)
    assert cosine.at(66).hard_share > line.at(66).hard_share


def test_frozen_borders_survive_another_length_unless_rescaled() -> None:
    frozen = Borders.planned(CONFIG, 100, None)
    assert Borders.planned(CONFIG, 500, frozen) == frozen
    moved = Borders.planned(replace(CONFIG, rescale=True), 500, frozen)
    assert moved.steps == (150, 350, 500)
    assert Borders.from_dict(frozen.to_dict()) == frozen


def clustering_epochs(sadc: Curriculum, epochs: int, steps: int) -> list[int]:
    last, found = -1, []
    for step in range(epochs * steps):
        if sadc.should_cluster(step // steps, step, last):
            last = step // steps
            found.append(step)
    return found


def test_clusters_at_the_entry_of_phase_3_then_every_n_epochs() -> None:
    # 10 epochs of 10 steps, phase 3 from step 75, in the middle of epoch 7
    sadc = curriculum(phase2_end=0.75)
    assert clustering_epochs(sadc, 10, 10) == [75, 90]
    assert clustering_epochs(curriculum(fn_cluster_every_n_epochs=1), 10, 10) == [70, 80, 90]


def test_no_clustering_before_the_start_epoch_or_outside_phase_3() -> None:
    assert clustering_epochs(curriculum(fn_curriculum_start_epoch=8), 10, 10) == [80]
    assert clustering_epochs(curriculum(fn_curriculum_start_epoch=None), 10, 10) == []
    assert clustering_epochs(curriculum(phase3_end=0.8), 10, 10) == [70]
    assert clustering_epochs(curriculum(phase_mode="two_phase"), 10, 10) == []


def test_sans_static_mines_and_clusters_nothing_but_phases_pass() -> None:
    config = CONFIG
    static = Curriculum(
        config, replace(SAMPLING, strategy="sans_static"), Borders.planned(config, 100, None)
    )
    assert clustering_epochs(static, 10, 10) == []
    assert {static.at(step).hard_share for step in range(100)} == {0.0}
    assert static.at(99).phase is Phase.MITIGATION
    assert "sans_static" in static.preflight(RunLength(10, 100))[0]


def test_preflight_is_silent_when_everything_happens() -> None:
    assert curriculum().preflight(RunLength(10, 100)) == []
    assert curriculum(phase_mode="two_phase").preflight(RunLength(10, 100)) == []
    assert curriculum(fn_curriculum_start_epoch=None).preflight(RunLength(10, 100)) == []


@pytest.mark.parametrize(
    ("changes", "epochs", "words"),
    [
        ({"fn_curriculum_start_epoch": 10}, 10, ["never clusters", "fn_curriculum_start_epoch=10"]),
        ({"fn_curriculum_start_epoch": 9, "phase3_end": 0.9}, 10, ["never clusters"]),
        ({"fn_curriculum_start_epoch": 9}, 10, ["first 2 epochs", "fn_curriculum_start_epoch=9"]),
        ({"phase2_end": 1.0}, 10, ["phase 3", "has no step"]),
        ({"phase2_end": 0.3}, 10, ["phase 2", "has no step"]),
        ({}, 5, ["phase 3", "begins at step 70", "ends after 50"]),
    ],
)
def test_preflight_names_what_will_not_happen(
    changes: dict[str, object], epochs: int, words: list[str]
) -> None:
    warnings = curriculum(**changes).preflight(RunLength(10, 10 * epochs))
    assert len(warnings) == 1
    for word in words:
        assert word in warnings[0]

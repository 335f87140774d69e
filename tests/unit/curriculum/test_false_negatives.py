"""Cluster labels: from the bank, on disk, and as a mask."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch

from naics_job.config.load import load_config
from naics_job.curriculum.false_negatives import ClusterState, refresh
from naics_job.curriculum.mining import MemoryBank
from naics_job.errors import CheckpointError
from naics_job.geometry.lorentz import exp_map_origin
from naics_job.taxonomy.tree import IntArray

CONFIG = replace(load_config(None, "smoke").config.curriculum, fn_num_clusters=3)


def clustered_bank(held_out: list[int]) -> MemoryBank:
    """30 codes in three tight, far-apart groups: code % 3; the last five were never encoded."""
    allowed = np.ones(30, dtype=bool)
    allowed[held_out] = False
    bank = MemoryBank(allowed, 2, 2)
    centres = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    noise = 0.05 * torch.randn(30, 2, generator=torch.Generator().manual_seed(1))
    points = exp_map_origin(centres[torch.arange(30) % 3] + noise, 1.0)
    bank.update(torch.arange(25), points[:25], torch.ones(25, 2) / 2)
    return bank


def test_labels_follow_the_points() -> None:
    labels = refresh(clustered_bank([]), CONFIG, 1.0, torch.Generator().manual_seed(3))
    assert len(set(labels[:25])) == 3
    for group in range(3):
        assert len(set(labels[group:25:3])) == 1
    assert (labels[25:] == -1).all()


def test_codes_without_an_embedding_and_held_out_codes_are_in_no_cluster() -> None:
    labels = refresh(clustered_bank([0, 6]), CONFIG, 1.0, torch.Generator().manual_seed(3))
    assert labels[[0, 6]].tolist() == [-1, -1]
    state = ClusterState(30)
    state.assign(labels, epoch=4)
    same = state.same(np.arange(30), np.arange(30))
    assert not same[[0, 6, 25, 29]].any()
    assert not same[:, [0, 6, 25, 29]].any()
    assert same[1, 4]
    assert not same[1, 2]


def test_points_of_codes_that_are_held_out_now_are_in_no_cluster() -> None:
    bank = clustered_bank([0, 6])
    bank.load_state_dict(clustered_bank([]).state_dict())  # of a run that held nothing out
    assert bool(bank.filled[[0, 6]].all())
    labels = refresh(bank, CONFIG, 1.0, torch.Generator().manual_seed(3))
    assert labels[[0, 6]].tolist() == [-1, -1]
    assert (labels[[3, 9]] >= 0).all()


def test_the_same_generator_gives_the_same_labels() -> None:
    bank = clustered_bank([])
    first = refresh(bank, CONFIG, 1.0, torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(
        first, refresh(bank, CONFIG, 1.0, torch.Generator().manual_seed(3))
    )


def test_clusters_stop_at_the_number_of_iterations() -> None:
    generator = torch.Generator().manual_seed(0)
    bank = MemoryBank(np.ones(600, dtype=bool), 4, 2)
    points = exp_map_origin(torch.randn(600, 4, generator=generator), 1.0)
    bank.update(torch.arange(600), points, torch.full((600, 2), 0.5))

    def labels(iterations: int) -> IntArray:
        config = replace(CONFIG, fn_num_clusters=20, fn_max_iterations=iterations)
        return refresh(bank, config, 1.0, torch.Generator().manual_seed(3))

    assert (labels(1) != labels(2)).any()
    np.testing.assert_array_equal(labels(500), labels(501))


def test_an_empty_bank_makes_no_cluster() -> None:
    bank = MemoryBank(np.ones(4, dtype=bool), 2, 2)
    assert refresh(bank, CONFIG, 1.0, torch.Generator()).tolist() == [-1] * 4


def test_labels_survive_a_checkpoint() -> None:
    state = ClusterState(4)
    assert state.epoch == -1
    assert not state.same(np.arange(4), np.arange(4)).any()
    state.assign(np.array([0, 1, -1, 1]), epoch=7)
    assert state.num_clusters == 2
    file = io.BytesIO()
    torch.save(state.state_dict(), file)
    file.seek(0)
    other = ClusterState(4)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.epoch == 7
    assert other.labels.tolist() == [0, 1, -1, 1]


def test_labels_of_another_taxonomy_are_refused() -> None:
    with pytest.raises(CheckpointError, match="2 codes, the taxonomy has 4"):
        ClusterState(4).load_state_dict(ClusterState(2).state_dict())

"""What a query trusts: weights by kind, confidence by its signs."""

import math

import torch

from naics_job.model.query_gates import QueryGates, signs_of

TREE = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.6, 0.8]])
WORDS = torch.tensor([[0.0, 0.5], [0.0, 0.0], [1.0, 0.0]])
LONG = torch.tensor([False, True, True])


def test_signs_are_lengths_and_a_constant() -> None:
    expected = torch.tensor([[5.0, 0.5, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(signs_of(TREE, WORDS), expected)


def test_they_start_shut_and_are_saved_but_not_trained() -> None:
    gates = QueryGates()
    word, tree = gates(TREE, WORDS, LONG)
    assert not word.any()
    assert not tree.any()
    assert not list(gates.parameters())
    assert set(gates.state_dict()) == {"word", "tree", "confidence_weight"}


def test_weights_are_of_the_kind_and_the_tree_is_trusted_by_confidence() -> None:
    gates = QueryGates()
    gates.word.copy_(torch.tensor([0.25, 1.5]))
    gates.tree.copy_(torch.tensor([0.1, 0.4]))
    gates.confidence_weight.copy_(torch.tensor([0.5, 2.0, -1.0]))
    word, tree = gates(TREE, WORDS, LONG)
    torch.testing.assert_close(word, torch.tensor([0.25, 1.5, 1.5]))

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    expected = [0.1 * sigmoid(2.5 + 1 - 1), 0.4 * sigmoid(-1), 0.4 * sigmoid(0.5 + 2 - 1)]
    torch.testing.assert_close(tree, torch.tensor(expected))

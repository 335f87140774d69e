"""How far a query trusts its words and its place in the tree, beside what its text says."""

import torch
from torch import Tensor, nn

NUM_SIGNS = 3  # length of the tree part before scaling, known words, constant
NUM_KINDS = 2  # of queries: short ones, read as a title, and long ones, read as a description
LONG = 1  # the number of the second kind


class QueryGates(nn.Module):
    """Weights of a query's parts against its text part, whose weight is 1.

    A short query and a long one have their own. They are no parameters of the training but fitted
    on texts of held-out families, see `training.calibration`: of the families that train, the tree
    part knows more than it will of others. All are 0 at the start, so an untrained model ranks
    codes exactly as the frozen encoder does.
    """

    word: Tensor  # [kind]
    tree: Tensor  # [kind], of a query that is sure
    confidence_weight: Tensor  # [sign]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("word", torch.zeros(NUM_KINDS))
        self.register_buffer("tree", torch.zeros(NUM_KINDS))
        self.register_buffer("confidence_weight", torch.zeros(NUM_SIGNS))

    def forward(self, tree: Tensor, words: Tensor, long: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of the words and of the tree part of each query, both `[row]`.

        Args:
            tree: tree parts before scaling, `[row, tree_dim]`.
            words: projected TF-IDF vectors, `[row, lexical_dim]`.
            long: whether a query is read as a description, `[row]` bool.
        """
        kind = long.long()
        confidence = (signs_of(tree, words) @ self.confidence_weight).sigmoid()
        return self.word[kind], self.tree[kind] * confidence


def signs_of(tree: Tensor, words: Tensor) -> Tensor:
    """What tells how sure a query is of its place, `[row, sign]`."""
    length = tree.norm(dim=1)
    return torch.stack([length, words.norm(dim=1), torch.ones_like(length)], dim=1)

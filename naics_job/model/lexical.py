"""The words of a text as a vector: TF-IDF, projected on the directions in which codes differ.

Latent semantic analysis (Deerwester et al. 1990) of the TF-IDF vectors of the six-digit codes that
train: the inner product of two projected vectors is that of their TF-IDF vectors as far as
`lexical_dim` directions tell. An encoder reads what a text is about; this part reads the rare word
that decides between two neighbours. It is computed once from the texts and does not train: trained
on the same texts it forgets what words mean elsewhere (docs/method.md).
"""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from naics_job.data.segments import Segments, TokenIds, ranges
from naics_job.data.tokens import Ragged
from naics_job.taxonomy.tree import BoolArray, IntArray

SMALLEST_LENGTH = 1e-12
DOCUMENT = ("title", "description", "examples")  # the channels that say what a code is


class LexicalProjection(nn.Module):
    """Token counts -> `[row, dim]`; the tables are buffers, saved with the weights.

    Args:
        vocabulary_size: of the tokenizer.
        dim: `model.lexical_dim`.
    """

    table: Tensor  # [vocabulary, dim]
    idf: Tensor  # [vocabulary], 0 for a token that no code has

    def __init__(self, vocabulary_size: int, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("table", torch.zeros(vocabulary_size, dim, dtype=torch.float16))
        self.register_buffer("idf", torch.zeros(vocabulary_size))

    @torch.no_grad()
    def fit(self, documents: sp.csr_matrix) -> None:
        """Learn the projection from the token counts `[document, vocabulary]` of some codes."""
        frequency = np.asarray((documents > 0).sum(axis=0)).ravel()
        idf = (np.log((1 + documents.shape[0]) / (1 + frequency)) + 1) * (frequency > 0)
        self.idf.copy_(torch.from_numpy(idf))
        weighted = documents.astype(np.float64)
        weighted.data = 1 + np.log(weighted.data)
        weighted = weighted.multiply(idf[None]).tocsr()
        length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1))).ravel()
        weighted = sp.diags(1 / np.maximum(length, SMALLEST_LENGTH)) @ weighted
        used = np.flatnonzero(frequency)
        rank = min(self.dim, min(documents.shape[0], len(used)) - 1)
        if rank < 1:
            return
        from scipy.sparse.linalg import svds  # a quarter of a second at every start otherwise

        start = np.ones(min(documents.shape[0], len(used)))
        _, _, directions = svds(weighted[:, used], k=rank, v0=start)  # [rank, used]
        sign = np.sign(directions[np.arange(rank), np.abs(directions).argmax(axis=1)])
        table = np.zeros(self.table.shape, dtype=np.float32)
        table[used, :rank] = (directions * sign[:, None]).T
        self.table.copy_(torch.from_numpy(table))

    def forward(self, tokens: Tensor, counts: Tensor, rows: Tensor, num_rows: int) -> Tensor:
        """Projected TF-IDF vectors of length 1 and less, `[num_rows, dim]`.

        Args:
            tokens: ids, `[entry]`; each row names a token once.
            counts: how often it stands there, `[entry]`.
            rows: which row the entry belongs to, `[entry]`, ascending.
            num_rows: rows in all; one without a known token is 0.
        """
        weight = (1 + counts.float().log()) * self.idf[tokens]  # [entry]
        square = weight.new_zeros(num_rows).index_add(0, rows, weight.square())
        length = square.sqrt().clamp_min(SMALLEST_LENGTH)
        if not self.dim or not len(tokens):
            return weight.new_zeros((num_rows, self.dim))
        used, column = torch.unique(tokens, return_inverse=True)
        start = torch.searchsorted(rows, torch.arange(num_rows, device=rows.device))
        projected: Tensor = nn.functional.embedding_bag(  # never makes the matrix [entry, dim]
            column,
            self.table[used].float(),
            start,
            mode="sum",
            per_sample_weights=weight / length[rows],
        )
        return projected


def counted(ids: Tensor, rows: Tensor, vocabulary_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Different tokens of each row, their counts, and their rows, each `[entry]`.

    Args:
        ids: `[token]` int64.
        rows: which row each stands in, `[token]` int64.
        vocabulary_size: above every id.
    """
    keys, counts = torch.unique(rows * vocabulary_size + ids, return_counts=True)
    return keys % vocabulary_size, counts, keys // vocabulary_size


class CodeWords:
    """Token counts of the codes, with or without some of their index items.

    Args:
        segments: of the channels.
        vocabulary_size: of the tokenizer.
        items: the index items that may be read at all, `[item]` bool.
        own: codes whose title and description may be read, `[code, 2]` bool.
    """

    def __init__(
        self, segments: dict[str, Segments], vocabulary_size: int, items: BoolArray, own: BoolArray
    ) -> None:
        self.vocabulary_size = vocabulary_size
        shape = (len(own), vocabulary_size)
        self.own = sp.csr_matrix(shape, dtype=np.float32)
        for column, channel in enumerate(DOCUMENT[:2]):
            start, length = segments[channel].whole()
            length = np.where(own[:, column], length, 0)
            self.own = self.own + _matrix(segments[channel].ids, start, length, shape)
        examples = segments["examples"]
        starts, length = examples.single()
        self.items = _matrix(examples.ids, starts, length, (len(length), vocabulary_size))
        self.item_start = examples.segment_start
        self.usable = items

    def counts(self, codes: IntArray, hidden: BoolArray | None = None) -> sp.csr_matrix:
        """Counts `[len(codes), vocabulary]` float32.

        Args:
            codes: positions `[row]`.
            hidden: index items left out, `[item]` bool.
        """
        shown = self.usable if hidden is None else self.usable & ~hidden
        start = self.item_start[codes]
        count = self.item_start[codes + 1] - start
        item, row = ranges(start, count), np.repeat(np.arange(len(codes)), count)
        keep = shown[item]
        ones = np.ones(int(keep.sum()), dtype=np.float32)
        belongs = sp.csr_matrix((ones, (row[keep], item[keep])), (len(codes), len(shown)))
        return self.own[codes] + belongs @ self.items


def counts_by_code(
    texts: Ragged, code: IntArray, num_codes: int, vocabulary_size: int
) -> sp.csr_matrix:
    """Token counts `[num_codes, vocabulary]` float32 of texts with the codes `code` `[text]`."""
    length = texts.lengths
    start, shape = np.cumsum(length) - length, (len(length), vocabulary_size)
    belongs = sp.csr_matrix(
        (np.ones(len(code), dtype=np.float32), (code, np.arange(len(code)))),
        (num_codes, len(code)),
    )
    return belongs @ _matrix(texts.ids, start, length, shape)


def matrix_entries(counts: sp.csr_matrix, device: torch.device) -> tuple[Tensor, ...]:
    """The entries of a matrix of token counts for `LexicalProjection`."""
    entries = counts.tocoo()
    tokens, rows = entries.col.astype(np.int64), entries.row.astype(np.int64)
    parts = (tokens, entries.data.copy(), rows)  # scipy sorts a matrix in place
    return tuple(torch.from_numpy(part).to(device) for part in parts)


def _matrix(
    ids: TokenIds, start: IntArray, length: IntArray, shape: tuple[int, int]
) -> sp.csr_matrix:
    """Token counts of runs of tokens."""
    tokens = ids[ranges(start, length)]
    ones = np.ones(len(tokens), dtype=np.float32)
    ends = np.concatenate(([0], np.cumsum(length)))
    matrix = sp.csr_matrix((ones, tokens, ends), shape)
    matrix.sum_duplicates()
    return matrix

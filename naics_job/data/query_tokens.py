"""The tokens of a free text, as training and search read it."""

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from naics_job.data.tokens import Ragged
from naics_job.errors import DataError

EXAMPLE = 'say what the business does: "organic soybean farm"'


class QueryTokenizer:
    """Tokenizes texts, cut to `max_tokens`."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._around = tokenizer.num_special_tokens_to_add(is_pair=False)
        self.full_stop = tokenizer.encode(".", add_special_tokens=False).ids[0]
        tokenizer.enable_truncation(max_tokens)

    def __call__(self, texts: Sequence[str]) -> Ragged:
        """One row per text; one without a word has length 0."""
        lists = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        kept = [ids if len(ids) > self._around else [] for ids in lists]
        ids = np.array([token for row in kept for token in row], dtype=np.int32)
        return Ragged(ids, np.array([len(row) for row in kept], dtype=np.int64))

    def asked(self, texts: Sequence[str]) -> Ragged:
        """The texts of searches, each with at least one word.

        Raises:
            DataError: a text has none.
        """
        tokens = self(texts)
        for text, length in zip(texts, tokens.lengths, strict=True):
            if length == 0:
                raise DataError(f"the query {text!r} has no word", EXAMPLE)
        return tokens

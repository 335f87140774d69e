"""The tokens of a free text, which the model reads as if it were a text of some channels."""

from collections.abc import Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from naics_job.data.tokens import Ragged
from naics_job.errors import DataError

QUERY_CHANNELS = ("title", "examples")
EXAMPLE = 'say what the business does: "organic soybean farm"'


class QueryTokenizer:
    """Tokenizes texts for each of QUERY_CHANNELS, cut to the length of the channel."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: Mapping[str, int]) -> None:
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._around = tokenizer.num_special_tokens_to_add(is_pair=False)

    def __call__(self, texts: Sequence[str]) -> dict[str, Ragged]:
        """The same texts in every query channel; one without a word has length 0."""
        return {channel: self._row(texts, self._max_tokens[channel]) for channel in QUERY_CHANNELS}

    def asked(self, texts: Sequence[str]) -> dict[str, Ragged]:
        """The texts of searches, each with at least one word.

        Raises:
            DataError: a text has none.
        """
        tokens = self(texts)
        for ragged in tokens.values():
            for text, length in zip(texts, ragged.lengths, strict=True):
                if length == 0:
                    raise DataError(f"the query {text!r} has no word", EXAMPLE)
        return tokens

    def _row(self, texts: Sequence[str], max_tokens: int) -> Ragged:
        self._tokenizer.enable_truncation(max_tokens)
        lists = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        kept = [ids if len(ids) > self._around else [] for ids in lists]
        ids = np.array([token for row in kept for token in row], dtype=np.int32)
        return Ragged(ids, np.array([len(row) for row in kept], dtype=np.int64))

"""Runs an encoder that `onnx_export` wrote: token lists in, mean-pooled features out, no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession, SessionOptions
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from naics_job.data.tokens import Ragged
from naics_job.errors import DataError
from naics_job.model.grouping import distinct_texts, length_blocks, padded_ids

INPUTS, OUTPUT = ("ids", "mask"), "pooled"
PAD_ID = 0  # the graph puts the encoder's own padding where the mask is 0
REFUSED = (failures.Fail, failures.InvalidArgument, failures.RuntimeException)
UNREADABLE = (
    *REFUSED,
    *(failures.InvalidGraph, failures.InvalidProtobuf),
    *(failures.NoSuchFile, failures.NotImplemented),
)
BLOCK_TOKENS = 2048  # padded; larger blocks take more memory and are not faster
ERRORS_ONLY = 3  # level of onnxruntime's own log on stderr
EXPORT_AGAIN = "export the model again, or restore the file"

Array: TypeAlias = npt.NDArray[Any]


class OnnxEncoder:
    """Encodes texts in blocks of similar length on the CPU; equal texts are encoded once.

    Args:
        source: the file, or its content.
        num_threads: of the computation; None: one per core of the machine, which in a container
            with a CPU quota is too many.

    Raises:
        DataError: the file is missing, damaged, or another kind of graph.
    """

    def __init__(self, source: Path | bytes, num_threads: int | None = None) -> None:
        self._name = str(source) if isinstance(source, Path) else "the encoder"
        session = open_session(source, self._name, num_threads)
        inputs = tuple(each.name for each in session.get_inputs())
        outputs = [(each.name, each.type, each.shape[1:]) for each in session.get_outputs()]
        fits = inputs == INPUTS and len(outputs) == 1 and len(outputs[0][2]) == 1
        if not fits or outputs[0][:2] != (OUTPUT, "tensor(float)"):
            raise DataError(f"{self._name} is a graph, but no exported encoder", EXPORT_AGAIN)
        self._session = session
        self.hidden_size = int(outputs[0][2][0])

    def __call__(self, token_lists: Sequence[Sequence[int]]) -> np.ndarray:
        """Features `[text, hidden]` float32 of token lists, special tokens included.

        An empty list has 0.

        Raises:
            DataError: a list has more tokens than the encoder has positions, or an unknown one.
        """
        flat = [token for tokens in token_lists for token in tokens]
        lengths = np.array([len(tokens) for tokens in token_lists], dtype=np.int64)
        ragged = Ragged(np.array(flat, dtype=np.int32), lengths)
        distinct = distinct_texts(ragged)
        texts = np.zeros((len(distinct.rows) + 1, self.hidden_size), dtype=np.float32)
        for block in length_blocks(lengths[distinct.rows], max_tokens=BLOCK_TOKENS):
            texts[block] = self._encode(*padded_ids(ragged, distinct.rows[block], PAD_ID))
        features: np.ndarray = texts[distinct.index]  # -1, an empty list, is the row of zeros
        return features

    def _encode(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Features `[text, hidden]` of one padded block `[text, token]`."""
        given = dict(zip(INPUTS, (ids, mask.astype(np.int64)), strict=True))
        try:
            (pooled,) = self._session.run([OUTPUT], given)
        except REFUSED as error:
            message = (
                f"{self._name} cannot read a text of {ids.shape[1]} tokens: {reason_of(error)}"
            )
            hint = "cut texts to max_tokens with the tokenizer of the same export"
            raise DataError(message, hint) from error
        features: np.ndarray = pooled
        return features


def open_session(source: Path | bytes, name: str, num_threads: int | None) -> InferenceSession:
    """A graph ready to run on the CPU.

    Args:
        source: the file, or its content.
        name: of it, for messages.
        num_threads: of the computation; None: one per core.

    Raises:
        DataError: it is missing or damaged.
    """
    options = SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    options.log_severity_level = ERRORS_ONLY
    given = str(source) if isinstance(source, Path) else source
    try:
        return InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except UNREADABLE as error:
        message = f"{name} is missing or damaged: {reason_of(error)}"
        raise DataError(message, EXPORT_AGAIN) from error


def reason_of(error: Exception) -> str:
    """What onnxruntime says, without its codes."""
    return str(error).partition("\n")[0].rpartition(" : ")[2]

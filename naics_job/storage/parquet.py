"""Read Parquet in the calling thread only."""

from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(source: pa.NativeFile) -> pa.Table:
    """The whole table.

    A thread of pyarrow's pool that lets go of a Python buffer while the interpreter ends aborts the
    process (apache/arrow#34314); one thread also reads our tables several times as fast.

    Raises:
        pa.ArrowException, OSError: it is not a readable Parquet file.
    """
    return cast(pa.Table, pq.ParquetFile(source, pre_buffer=False).read(use_threads=False))

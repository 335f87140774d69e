"""Write a safetensors file without holding a second copy of it in memory."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from naics_job.errors import DataError
from naics_job.storage.files import copy_into, sha256_of


def write_tensors(
    url: str, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> str:
    """Write tensors to a path or URL and return the sha256 of the file.

    Raises:
        DataError: the scratch disk or that of `url` is full or cannot be written.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with TemporaryDirectory(prefix="naics-tensors-") as scratch:
        local = Path(scratch) / url.rpartition("/")[2]
        try:
            save_file(plain, local, metadata)
        except (SafetensorError, OSError) as error:
            hint = "free space on the disk of temporary files, or set TMPDIR to another one"
            raise DataError(f"cannot write {url} by way of {local}: {error}", hint) from error
        sha256 = sha256_of(local)
        copy_into(local, url)
    return sha256

"""How Lightning writes a state to the local disk, from where it goes to the run store."""

from typing import Any

from lightning.pytorch.plugins import TorchCheckpointIO

from naics_job.checkpoint.payload import save_payload
from naics_job.errors import CheckpointError


class SnapshotIO(TorchCheckpointIO):
    """Lets Lightning write only what loads without trust.

    A failure is kept in `failure` rather than raised: Lightning writes on the main process only and
    then waits for all, so an error there would leave the others waiting.
    """

    def __init__(self) -> None:
        self.failure: CheckpointError | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to the local `path`."""
        self.failure = None
        try:
            save_payload(checkpoint, path, sync=False)  # it is stored elsewhere, and then checked
        except CheckpointError as error:
            self.failure = error

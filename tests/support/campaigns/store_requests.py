"""Fail every single request of a save and of a resume; a reader must find a whole checkpoint.

The requests are not known beforehand: the k-th one fails for k = 1, 2, ... until a save or a resume
makes no k-th request any more.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from fault_proxy import Fault, FaultProxy

from campaigns.counts import Counts
from campaigns.retention import facts_of
from campaigns.scene import use_s3
from campaigns.stage import Stage
from naics_job.checkpoint.catalogue import Catalogue
from naics_job.checkpoint.resume import resolve
from naics_job.checkpoint.store import RunStore
from naics_job.errors import TransientError
from naics_job.storage import files, retry

MANY = 1000  # more requests than any save makes
FEWEST = 5  # else the proxy misses the requests
# How often in a row it takes for one failure: aiohttp itself repeats what a connection broke.
TIMES: dict[Fault, int] = {"busy": 1, "reset": 2, "cut": 2, "lost": 2}
GOALS = {
    "saves without a whole checkpoint after": 0,
    "saves that named a broken checkpoint": 0,
    "saves that went wrong unsaid": 0,
    "resumes from another checkpoint": 0,
}
assert set(TIMES) <= set(get_args(Fault))


def new_counts() -> Counts:
    """Counts of this campaign, all 0."""
    counts = Counts("requests", "in this process, on S3", goals=GOALS)
    kinds = ("requests of saves failed", "saves refused aloud", "requests of resumes failed")
    for name in (*kinds, "resumes refused aloud", *GOALS):
        counts.add(name, 0)
    return counts


def requests(stage: Stage) -> Counts:
    """Every fault at every request, once each."""
    assert stage.proxy is not None
    assert stage.server is not None
    counts = new_counts()
    own = {"AWS_ENDPOINT_URL": stage.proxy.endpoint, "AWS_MAX_ATTEMPTS": "1"}
    through = {**stage.server.environment, **own}  # botocore too tries once
    with use_s3(through), _one_try():
        for fault in TIMES:
            root = f"s3://naics/requests-{fault}/smoke"
            saves = fail_saves(stage.proxy, root, stage.folder, fault, counts)
            cache = stage.folder / f"fetched-{fault}"
            resumes = fail_resumes(stage.proxy, root, cache, fault, counts)
            if min(saves, resumes) < FEWEST:
                counts.fail(f"{fault}: the proxy saw {saves} and {resumes} requests only")
    return counts


@contextmanager
def _one_try() -> Iterator[None]:
    """Requests of this process are made once, and wait a second for an answer."""
    from s3fs import S3FileSystem

    before = retry.PATIENCE, S3FileSystem.retries, S3FileSystem.read_timeout
    retry.PATIENCE = retry.Patience(attempts=1, base_s=0.0, cap_s=0.0)
    S3FileSystem.retries, S3FileSystem.read_timeout = 1, 1
    try:
        yield
    finally:
        retry.PATIENCE, S3FileSystem.retries, S3FileSystem.read_timeout = before


def weights(step: int) -> bytes:
    """Content of a checkpoint."""
    return b"weights %d " % step * 1000


def fail_saves(proxy: FaultProxy, root: str, folder: Path, fault: Fault, counts: Counts) -> int:
    """Fail request k of a save, without a second try; returns the first k that no save makes."""
    store, local = RunStore(root, "run-a", 2), folder / f"payload-{fault}"

    def save(writer: RunStore, step: int) -> int:
        local.write_bytes(weights(step))
        return writer.save(local, facts_of(step)).step

    for step in (1, 2, 3):
        save(store, step)
    for k in range(1, MANY):
        step = k + 3
        proxy.fail(k, fault, TIMES[fault])
        refused = _refused(lambda step=step: save(store, step))  # type: ignore[misc]
        happened = len(proxy.requests) >= k
        proxy.watch()
        counts.add("requests of saves failed", int(happened))
        counts.add("saves refused aloud", int(refused))
        saved = _check(root, step, refused, f"{fault} at request {k}", counts)
        if not happened:
            return k
        if not saved:  # the next process
            assert save(RunStore(root, "run-a", 2), step) == step
    raise AssertionError(f"a save makes more than {MANY} requests")


def _refused(call: Callable[[], object]) -> bool:
    try:
        call()
    except TransientError:
        return True
    return False


def _check(root: str, step: int, refused: bool, where: str, counts: Counts) -> bool:
    """Look as a reader does; whether the checkpoint of `step` is there."""
    found, skipped = Catalogue(root).newest_verified()
    if found is None or found.step not in (step - 1, step):
        counts.add("saves without a whole checkpoint after")
        counts.fail(f"{where}: found {found}, {skipped}")
        return False
    if skipped or files.read_bytes(files.join(root, found.path)) != weights(found.step):
        counts.add("saves that named a broken checkpoint")
        counts.fail(f"{where}: step {found.step} is found with other bytes, {skipped}")
    if not refused and found.step != step:
        counts.add("saves that went wrong unsaid")
        counts.fail(f"{where}: step {step} was saved, found is {found.step}")
    return found.step == step


def fail_resumes(proxy: FaultProxy, root: str, folder: Path, fault: Fault, counts: Counts) -> int:
    """Fail request k of a resume; returns the first k that no resume makes."""
    newest, _ = Catalogue(root).newest_verified()
    assert newest is not None
    for k in range(1, MANY):
        proxy.fail(k, fault, TIMES[fault])
        refused = True
        try:
            plan = resolve("auto", root, folder / str(k))
            refused = False
        except TransientError:
            counts.add("resumes refused aloud")
        happened = len(proxy.requests) >= k
        proxy.watch()
        counts.add("requests of resumes failed", int(happened))
        if not refused and (plan.kind, plan.manifest) != ("resume", newest):
            counts.add("resumes from another checkpoint")
            counts.fail(f"{fault} at request {k}: {plan}")
        if not happened:
            return k
    raise AssertionError(f"a resume makes more than {MANY} requests")

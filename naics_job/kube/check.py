"""Whether a run that is installed works: its store can be used, and all its processes joined."""

import http.client
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from naics_job.errors import CheckpointError, ConfigError, NaicsJobError, TransientError
from naics_job.storage import files
from naics_job.storage.capabilities import probe

WORLD_SIZE = "naics_world_size"
FETCH_S = 5.0
PAUSE_S = 2.0


@dataclass(frozen=True)
class Scrape:
    """What one process says of itself."""

    url: str
    rank: int
    world_size: int


def check_store(url: str) -> str:
    """Write, read and delete an object below `url`; returns what was seen, in words.

    Raises:
        NaicsJobError: a request is refused or fails; the hint names what is missing.
    """
    if files.local_path(url) is None:
        able = probe(url).conditional_create
        return f"{url}: written, read, deleted; conditional writes: {'yes' if able else 'no'}"
    target, content = files.join(url, f".check-{secrets.token_hex(8)}"), secrets.token_bytes(8)
    files.make_dir(url)
    files.create_bytes(target, content)
    try:
        if files.read_bytes(target) != content:
            raise CheckpointError(f"{target} reads back other than it was written", "see the disk")
    finally:
        files.remove(target)
    return f"{url}: written, read, deleted"


def check_ranks(urls: Sequence[str], num_ranks: int, timeout_s: float) -> str:
    """Scrape every process until all have joined; returns what was seen, in words.

    Processes load models and data before they join, so this looks again until the time is up.

    Args:
        urls: of the metrics of each process.
        num_ranks: processes of the run.
        timeout_s: how long to look.

    Raises:
        ConfigError: there are fewer addresses than processes.
        TransientError: a process does not answer or has not joined in time.
        NaicsJobError: processes have joined, but not as many as should.
    """
    if len(urls) != num_ranks:
        hint = "give --metrics once for each process: its port is 9400 + its number in the pod"
        raise ConfigError(f"{len(urls)} addresses of metrics for {num_ranks} processes", hint)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            scrapes = [scrape(url) for url in urls]
            _compare(scrapes, num_ranks)
        except NaicsJobError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(min(PAUSE_S, max(0.0, deadline - time.monotonic())))
            continue
        return f"{num_ranks} processes answer, ranks 0 to {num_ranks - 1}, all in one run"


def scrape(url: str) -> Scrape:
    """Ask one process for its rank and the size of its world.

    Raises:
        TransientError: it does not answer, or has not joined the others yet.
    """
    hint = "see whether its pod runs: naics-embedder job status; a network policy may be in the way"
    try:
        with urllib.request.urlopen(url, timeout=FETCH_S) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
        raise TransientError(f"{url} cannot be scraped: {error}", hint) from error
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == WORLD_SIZE:
                    return Scrape(url, int(sample.labels["rank"]), int(sample.value))
    except (ValueError, KeyError) as error:
        raise TransientError(f"{url} does not serve our metrics: {error!r}", hint) from error
    waits = "it has not joined the others yet: see its log"
    raise TransientError(f"{url} says nothing of {WORLD_SIZE}", waits)


def _compare(scrapes: Sequence[Scrape], num_ranks: int) -> None:
    for each in scrapes:
        if each.world_size != num_ranks:
            raise NaicsJobError(
                f"{each.url}: rank {each.rank} is in a world of {each.world_size}, not {num_ranks}",
                "processes found others than these: see --nnodes and --nproc-per-node of the pods",
            )
    ranks = sorted(each.rank for each in scrapes)
    if ranks != list(range(num_ranks)):
        raise NaicsJobError(
            f"the addresses answer for ranks {ranks}, not 0 to {num_ranks - 1}",
            "two addresses lead to one process: see the ports and host names",
        )

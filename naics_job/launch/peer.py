"""Wait until the first machine of a run can be reached: its name resolves, its port answers."""

import logging
import random
import socket
import threading
import time
from dataclasses import dataclass, field

from naics_job.errors import TransientError
from naics_job.observability.logs import event

log = logging.getLogger(__name__)
PAUSES_S = (0.2, 5.0)  # shortest and longest mean pause between two tries
CONNECT_S = 5.0
TOLD_EVERY_S = 30.0


@dataclass
class _Wait:
    """What the waiting thread has found out so far."""

    failing: str = "DNS: was not asked yet"
    done: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)


def wait_for_peer(host: str, port: int, timeout_s: float) -> None:
    """Return when `host:port` takes a connection.

    The tries run in a thread of their own: a look-up of a name cannot be interrupted, and a signal
    must not wait for it.

    Raises:
        TransientError: it took longer than `timeout_s`; says whether DNS or TCP failed.
    """
    wait, started = _Wait(), time.monotonic()
    threading.Thread(target=_try_until_done, args=(wait, host, port), daemon=True).start()
    told = started
    try:
        while not wait.done.wait(0.2):
            now = time.monotonic()
            if now - started > timeout_s:
                raise TransientError(
                    f"waited {timeout_s:g} s for {host}:{port} in vain, {wait.failing}",
                    "look at the first machine of the run: it must run, and its name must resolve",
                )
            if now - told > TOLD_EVERY_S:
                told = now
                event(log, logging.INFO, "launch.waiting", peer=f"{host}:{port}", why=wait.failing)
    finally:
        wait.stop.set()


def _try_until_done(wait: _Wait, host: str, port: int) -> None:
    rng, pause = random.Random(), PAUSES_S[0]
    while not wait.stop.is_set():
        wait.failing = _reason(host, port)
        if not wait.failing:
            wait.done.set()
            return
        # all machines start together: spread their tries
        wait.stop.wait(pause * rng.uniform(0.5, 1.5))
        pause = min(pause * 1.5, PAUSES_S[1])


def _reason(host: str, port: int) -> str:
    """Why the peer cannot be reached now; empty when it can."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return f"DNS: {error}"
    reasons = []
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.settimeout(CONNECT_S)
                probe.connect(address)
                return ""
        except OSError as error:
            reasons.append(f"{address[0]} {error}")
    return "TCP: " + "; ".join(reasons)

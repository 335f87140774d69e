"""Waiting for the first machine: for its name, then for its port."""

import socket

import pytest

from naics_job.errors import TransientError
from naics_job.launch import peer
from naics_job.launch.peer import wait_for_peer


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **named: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(peer.socket, "getaddrinfo", unknown)
    with pytest.raises(
        TransientError, match=r"j-worker-0:29400 in vain, DNS: .*not known"
    ) as error:
        wait_for_peer("j-worker-0", 29400, 0.3)
    assert error.value.exit_code == 75


def test_a_port_that_refuses(port: int) -> None:
    with pytest.raises(TransientError, match=r"TCP: 127\.0\.0\.1 .*refused"):
        wait_for_peer("127.0.0.1", port, 0.5)


def test_a_port_that_opens_later(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    first_tries: list[str] = []
    look = peer._reason
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))

        def open_after_two(host: str, number: int) -> str:
            first_tries.append(look(host, number))
            if len(first_tries) == 2:
                server.listen()
            return first_tries[-1]

        monkeypatch.setattr(peer, "_reason", open_after_two)
        wait_for_peer("127.0.0.1", port, 30)
    assert [reason[:3] for reason in first_tries] == ["TCP", "TCP", ""]

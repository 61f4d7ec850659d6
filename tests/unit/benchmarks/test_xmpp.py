from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.load.component import Component
from benchmarks.load.wire import LoadError
from benchmarks.peers.orders import Orders, take_orders
from benchmarks.peers.xmpp_server import Rosters, ring, stored_keys, with_others

DEADLINE_S = 20.0


@pytest.mark.parametrize(
    ("rosters", "each"), [(ring(1_000), 20), (ring(21), 20), (ring(5), 4), (ring(1), 0), (with_others(120), 20)]
)
def test_contacts_are_mutual_and_nobody_is_their_own(rosters: Rosters, each: int) -> None:
    for name, contacts in rosters.items():
        assert len(set(contacts)) == len(contacts)
        assert name not in contacts
        assert all(name in rosters[contact] for contact in contacts)
        if name.startswith("u"):
            assert len(contacts) == each


def test_stored_keys_are_those_of_scram() -> None:
    keys = stored_keys()
    assert keys.stored_key == hashlib.sha1(keys.client_key).digest()
    assert len(keys.server_key) == 20


class _Server(threading.Thread):
    """What a component needs of a server: a stream, trust or not, and messages sent back to where they come from."""

    def __init__(self, *, trusts: bool = True) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._trusts = trusts
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        with self._listener, contextlib.closing(self._listener.accept()[0]) as client:
            client.recv(65_536)
            client.sendall(b"<stream:stream xmlns='a' xmlns:stream='b' id='i'>")
            digest = hashlib.sha1(b"i" + b"s3cret").hexdigest()
            assert client.recv(65_536).decode() == f"<handshake>{digest}</handshake>"
            if not self._trusts:
                return
            client.sendall(b"<handshake/>")
            with contextlib.suppress(ConnectionError):
                while data := client.recv(65_536):
                    client.sendall(data)


def test_a_component_counts_what_it_says_and_what_it_hears() -> None:
    server = _Server()
    server.start()
    with Component(server.port, "component.bench", "s3cret") as contact:
        contact.talk(["a@b/c", "d@b/c"], float("inf"), 101)
        deadline = time.monotonic() + DEADLINE_S
        while contact.arrived < 101 and time.monotonic() < deadline:
            time.sleep(0.01)
        contact.hush()
        assert list(contact.heard) == contact.said
        assert contact.arrived == len(contact.said) == 101


def test_a_component_that_is_not_wanted_says_so() -> None:
    server = _Server(trusts=False)
    server.start()
    with pytest.raises(LoadError, match="does not take the component"), Component(server.port, "c", "s3cret"):
        pass


async def test_orders_are_carried_out_and_what_goes_wrong_comes_back(tmp_path: Path) -> None:
    async def double(number: int) -> dict[str, Any]:
        return {"result": 2 * number}

    async def fail() -> dict[str, Any]:
        raise RuntimeError("no such luck")

    path = tmp_path / "orders"
    async with await take_orders(path, {"double": double, "fail": fail}):
        give = Orders(path).give
        assert await asyncio.to_thread(give, "double", number=21) == {"result": 42}
        with pytest.raises(LoadError, match="fail: RuntimeError: no such luck"):
            await asyncio.to_thread(give, "fail")
    with pytest.raises(LoadError, match="double: no answer"):
        Orders(tmp_path / "nobody").give("double", number=1)

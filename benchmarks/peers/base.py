"""What a case asks of a server, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Protocol

from benchmarks.load.clients import Address
from benchmarks.load.wire import Dialect

ANSWER = "The answer to every event: sixty-four bytes of ordinary text. ok"
"""What the backend has sent to the client for each event (64 bytes)."""
MESSAGE = "What a client says: sixty-four bytes of ordinary text, no more.."
"""What a client sends, and what is published (64 bytes)."""
CHANNEL = "bench"
Pids = Callable[[], frozenset[int]]
"""The processes of something that are alive now."""


class Task(Enum):
    """What the server is set up for."""

    ECHO = "echo"
    """Every event goes to a backend, whose answer has ANSWER sent to the client."""
    CHANNEL = "channel"
    """Every client is subscribed to CHANNEL as it connects."""
    GRIP_ECHO = "GRIP echo"
    """ECHO, the backend spoken to in WebSocket-over-HTTP."""
    GRIP_CHANNEL = "GRIP channel"
    """CHANNEL, told by such a backend; publications are GRIP items."""
    IDLE = "idle"
    """Clients connect and nothing happens. Where a server asks a backend at connect, it does."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores the parts run on: the same split for every server."""

    server: frozenset[int]
    backend: frozenset[int]
    load: frozenset[int]


@dataclass(frozen=True, slots=True)
class Running:
    """A started server."""

    address: Address
    dialect: Dialect
    pids: Pids
    backend_pids: Pids
    beside: Mapping[str, Pids] = field(default_factory=dict)
    publish_address: Address = ("", 0)
    publications: Callable[[int], Sequence[bytes]] = lambda count: ()
    """Whole HTTP requests that together publish MESSAGE to CHANNEL so many times."""
    publish_closes: bool = False
    """The server closes a publishing connection after each answer."""


class Program(Protocol):
    """Something that must be installed to be used here."""

    @property
    def name(self) -> str: ...

    def absent(self) -> str | None:
        """Why it cannot run on this machine; None when it can."""
        ...

    def versions(self) -> Mapping[str, str]:
        """Program → version, for the record."""
        ...


class Peer(Program, Protocol):
    """A server that can be measured."""

    def run(self, task: Task, folder: Path, cores: Cores) -> AbstractContextManager[Running]:
        """Start it for a task in a fresh scratch folder. Raises ServerError."""
        ...

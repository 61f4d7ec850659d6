"""What a case asks of those who hold XMPP sessions, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.peers.base import Cores, Pids, Program
from benchmarks.peers.xmpp_server import Way, XmppServer

LogIn = Callable[[int, int], int]
"""Log in the accounts from the first number on, so many; nanoseconds until the last had its roster, had said that it
is there, and had carbons turned on. Raises LoadError when one could not."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A started holder."""

    pids: Pids
    """Of the processes that hold the sessions."""
    log_in: LogIn
    resume: Callable[[], int]
    """All sessions lose their connection and are resumed; nanoseconds until the last was. Raises LoadError when one
    could not. What holds them then is `resumed_pids`."""
    resumed_pids: Pids
    backend_pids: Pids = frozenset
    beside: Mapping[str, Pids] = field(default_factory=dict)


class Holder(Program, Protocol):
    """Something that holds sessions of XMPP accounts, and can be measured."""

    def hold(
        self, server: XmppServer, way: Way, at_once: int, folder: Path, cores: Cores
    ) -> AbstractContextManager[Holding]:
        """Start it in a fresh scratch folder, holding nothing yet; it logs in `at_once` accounts at a time. Raises
        ServerError."""
        ...

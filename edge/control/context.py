"""What the handlers of the control API work with, and the line each of them has in the table of endpoints."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from edge.sessions.operations_port import Operations
from edge.telemetry.exposition import Snapshot

Gather = Callable[[], Awaitable[Snapshot]]
"""Collects the metrics of all workers: `Siblings.gather`."""


@dataclass(frozen=True, slots=True)
class Context:
    """The edge behind the API."""

    operations: Operations
    gather: Gather
    publish_bytes: Callable[[], int] = lambda: 1_000_000
    """Largest body of items to publish."""
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    """Wall clock."""


Handler = Callable[[Context, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter."""

    name: str
    about: str
    kind: Literal["string", "integer"] = "string"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of the table. `answers` maps a good status to the name of its schema; ``text/…``: no JSON.

    `open`: answered without a token, for probes and for people looking around; it must not say anything secret.
    `publishing`: part of Pushpin's interface. Publishers' credentials open it too, and it answers in plain text unless
    Accept prefers JSON. `also`: another path for the same.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    about: str
    handler: Handler
    answers: Mapping[int, str]
    errors: Sequence[int] = ()
    query: Sequence[Parameter] = field(default=())
    body: str = ""
    open: bool = False
    publishing: bool = False
    also: str = ""

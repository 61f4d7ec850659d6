"""The ways from a route to its targets, as releases and settings are now. Connections share them: what a connection
would otherwise look up for each request, or keep for itself, stands here once.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge.backend.origin_base import Origin
from edge.config import TargetSettings
from edge.model.cohort import Subject
from edge.protocol.grip.signature import GripSigner
from edge.sessions.grip.targets import targets_of
from edge.sessions.routes import RouteHandle

if TYPE_CHECKING:
    from edge.sessions.grip.services import GripServices

_log = logging.getLogger("holdfast.grip")

COMPLAIN_AGAIN_MS = 10_000
"""The same trouble with the same target is logged this often at most: ten thousand connections may have it."""
SIGN_AGAIN_MS = 1_000
PLAIN_MOST = 256


class Way:
    """The way to one target. `version`: of the releases when it was made; another one makes it stale."""

    __slots__ = (
        "_clock",
        "_complaints",
        "_wheel",
        "before",
        "buffer_bytes",
        "origin",
        "plain",
        "rest",
        "signer",
        "target",
        "timeout_s",
        "version",
    )

    def __init__(self, services: GripServices, handle: RouteHandle, target: TargetSettings, version: int) -> None:
        settings = handle.settings
        self._clock = services.clock
        self._wheel = services.wheel
        self.target = target
        self.origin: Origin = services.origins.of(settings, target)
        self.version = version
        self.before = urlsplit(target.url).path.rstrip("/").encode()
        """What stands before every path."""
        self.signer = GripSigner(settings.grip.sig_key.value, settings.grip.sig_iss)
        self.rest = b""
        """What ends the head of a request that has nothing of its own to say, with its length and body to be filled
        in; empty when it is more than a second old (see `sign`)."""
        self.plain: dict[int, object] = {}
        """Headers of answers, by identity, that said nothing but that the body is events: backends repeat themselves,
        and so do the objects that their heads are parsed to."""
        self.timeout_s = settings.timeouts.request_s
        self.buffer_bytes = settings.grip.buffer_bytes
        self._complaints: dict[str, int] = {}

    def token(self) -> bytes:
        """Grip-Sig as of now."""
        return self.signer.token(self._clock.wall_ms() // 1_000)

    def sign(self) -> bytes:
        """Make `rest` anew. While requests are made, once a second."""
        self.rest = rest = b"Grip-Sig: " + self.token() + b"\r\nContent-Length: %d\r\n\r\n%b"
        self._wheel.after(SIGN_AGAIN_MS, self._grow_old)
        return rest

    def _grow_old(self) -> None:
        self.rest = b""

    def remember_plain(self, headers: object) -> None:
        """These say nothing; they will come again."""
        if len(self.plain) >= PLAIN_MOST:
            self.plain.clear()
        self.plain[id(headers)] = headers

    def complain(self, route: str, problem: str, detail: object, now_ms: int) -> None:
        """Log what is wrong with the target; once in a while for the same `problem` (one of ours, not of its words)."""
        if now_ms >= self._complaints.get(problem, now_ms):
            self._complaints[problem] = now_ms + COMPLAIN_AGAIN_MS
            _log.warning("route %s, target %s: %s (%s)", route, urlsplit(self.target.url).netloc, problem, detail)


class Ways:
    """Finds ways, and makes those that are new."""

    __slots__ = ("_services", "_version", "_ways")

    def __init__(self, services: GripServices) -> None:
        self._services = services
        self._version = -1
        self._ways: dict[tuple[RouteHandle, str, int], Way] = {}

    def of(self, handle: RouteHandle, number: int, subject: Subject) -> Way | None:
        """The way to the route's target of this number, for a client; None: it has no so many. Raises WireError for a
        signing key that is none."""
        services = self._services
        version = services.releases.version
        if version != self._version:
            self._version = version
            self._ways.clear()
        release = services.releases.choose(handle.settings, subject, None, None, 0).sha
        way = self._ways.get((handle, release, number))
        if way is None:
            targets = targets_of(handle.settings, services.releases, subject)
            if number >= len(targets):
                return None
            way = self._ways[handle, release, number] = Way(services, handle, targets[number], version)
        return way

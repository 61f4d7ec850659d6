"""Which backends a request of a GRIP route goes to, in the order they are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from edge.config import RouteSettings, TargetSettings
from edge.config.groups import TEST_BACKEND
from edge.model.cohort import Subject
from edge.model.routing import rewritten
from edge.protocol.callbacks.events import ClientRequest
from edge.sessions.releases import Releases
from edge.sessions.routes import claim_of


def subject_of(route: RouteSettings, releases: Releases, request: ClientRequest) -> Subject:
    """Whom releases are chosen for. GRIP has no sessions that outlive a request, so what stays the same from one
    request of a client to the next stands in for one: its address and what it calls itself."""
    agent = next((value for name, value in request.headers if name.lower() == "user-agent"), "")
    return Subject(f"{request.client.rpartition(':')[0]} {agent}", None, releases.match(route, request))


def targets_of(route: RouteSettings, releases: Releases, subject: Subject) -> Sequence[TargetSettings]:
    """The route's targets, at least one. The first is where the release of `subject` is: when that is another one, the
    client's next request goes there."""
    release = releases.choose(route, subject, None, None, 0)
    if not route.targets:
        return (TargetSettings(release.url),)
    if release.sha == route.release:
        return route.targets
    return (replace(route.targets[0], url=release.url), *route.targets[1:])


def backend_path(route: RouteSettings, target: TargetSettings, path: str) -> str:
    """The path to ask `target` for, when the client asked for `path` (without the query): the route's rewriting
    first, then what `target.url` has before every path."""
    grip = route.grip
    if target.url == TEST_BACKEND:  # as in Pushpin, its resources lie below the route's path
        return rewritten(path, claim_of(route), remove=len(route.path.rstrip("/")))
    path = rewritten(path, claim_of(route), remove=grip.path_remove, replace=grip.path_replace)
    before = urlsplit(target.url).path.rstrip("/")
    return before + path


def backend_host(route: RouteSettings, target: TargetSettings, client_host: str) -> str:
    """The Host header for `target`: its own, the route's, the client's, or at last that of its URL."""
    return target.host or route.grip.host or client_host or urlsplit(target.url).netloc.rpartition("@")[2]

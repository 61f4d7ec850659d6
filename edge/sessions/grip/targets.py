"""Which backends a request of a GRIP route goes to, in the order they are tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge.config import RouteSettings, TargetSettings
from edge.sessions.releases import Releases


def targets_of(route: RouteSettings, releases: Releases) -> Sequence[TargetSettings]:
    """The route's targets, at least one. The first is where the app's current release is: promoting another one moves
    the next request of every client there."""
    release = releases.choose(route, None, None)
    if not route.targets:
        return (TargetSettings(release.url),)
    if release.sha == route.release:
        return route.targets
    return (replace(route.targets[0], url=release.url), *route.targets[1:])

"""Rules between settings of GRIP routes: what belongs to one protocol only, targets, and what only looks wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from edge.config.addresses import parse_address
from edge.config.groups import TEST_BACKEND, GripRouteSettings, RouteSettings, Settings
from edge.errors import ConfigError

CALLBACKS_ONLY = (
    "callback_path",
    "policy",
    "encoding",
    "secrets",
    "tracing",
    "pool",
    "limits.queue_events",
    "limits.queue_bytes",
    "timeouts.retry_window_s",
)
"""Settings of a route, or groups of them, that mean nothing where ``protocol = "grip"``."""
GRIP_ONLY = ("grip", "target")
"""And those that mean nothing anywhere else."""
INSTEAD = {
    "secrets": "GRIP requests are signed with grip.sig_key",
    "callback_path": "give the path in the URL of the backend, or use grip.path_replace",
    "limits.queue_events": "grip.buffer_bytes bounds what waits for the backend",
    "limits.queue_bytes": "grip.buffer_bytes bounds what waits for the backend",
    "pool": "grip.backend_connections bounds requests under way",
}
DEFAULT_KEY = GripRouteSettings().sig_key


def grip_contradictions(settings: Settings, where: Callable[[str], str]) -> Iterator[tuple[ConfigError, Sequence[str]]]:
    """See `edge.config.crosscheck.contradictions`."""
    for index, route in enumerate(settings.routes):
        key = f"route[{index}]"
        yield from _foreign(settings, route, key, where)
        if route.protocol == "grip":
            yield from _targets(settings, route, key, where)
        elif route.scheme == "http":
            allowed = 'empty or "ws": routes of protocol "callbacks" take WebSockets only'
            error = ConfigError(where(f"{key}.scheme"), f"{key}.scheme", route.scheme, allowed)
            yield error, (f"{key}.scheme", f"{key}.protocol")
    first: dict[str, int] = {}
    for index, publisher in enumerate(settings.publishers):
        twin = first.setdefault(publisher.name, index)
        if twin != index:
            key = f"publisher[{index}].name"
            error = ConfigError(where(key), key, publisher.name, f"publisher[{twin}] has this name already")
            yield error, (key, f"publisher[{twin}].name")


def grip_oddities(settings: Settings, where: Callable[[str], str]) -> Iterator[str]:
    """See `edge.config.crosscheck.oddities`."""
    open_to_others = any(not parse_address(text).is_loopback for text in settings.edge.listen)
    known = [
        (index, r) for index, r in enumerate(settings.routes) if r.protocol == "grip" and r.grip.sig_key == DEFAULT_KEY
    ]
    if open_to_others and known:
        index, route = known[0]
        others = f" (and {len(known) - 1} more)" if len(known) > 1 else ""
        source = where(f"route[{index}].grip.sig_key")
        if source == "default":  # the route comes from a flag
            source = where(f"route[{index}].backend")
        yield (
            f"{source}: route {route.name!r}{others} signs requests with grip.sig_key = "
            '"changeme", which everybody knows: who reaches the backend can pass for this edge. Set one of your own, '
            "here (--sig-key, or sig_key of [grip]) and in the backend's GRIP settings"
        )
    for field in ("zmq_pull", "zmq_sub"):
        address = getattr(settings.grip, field)
        if address.startswith("tcp://") and not _loopback(address[6:]):
            yield (
                f"{where(f'grip.{field}')}: grip.{field} = {address!r} takes publications from anybody who can connect "
                "to it: ZeroMQ sockets have no authentication"
            )


def _foreign(
    settings: Settings, route: RouteSettings, key: str, where: Callable[[str], str]
) -> Iterator[tuple[ConfigError, Sequence[str]]]:
    """Settings that were given and belong to the other protocol."""
    foreign, home = (CALLBACKS_ONLY, "callbacks") if route.protocol == "grip" else (GRIP_ONLY, "grip")
    for field in foreign:
        pattern = re.compile(re.escape(f"{key}.{field}") + r"($|[.\[])")
        given = [name for name in settings.sources if pattern.match(name)]
        if given:
            allowed = f'it belongs to routes with protocol = "{home}"'
            if field in INSTEAD and home == "callbacks":
                allowed += f"; {INSTEAD[field]}"
            problem = f'means nothing with protocol = "{route.protocol}"'
            yield ConfigError(where(given[0]), given[0], "", allowed, problem=problem), (*given, f"{key}.protocol")


def _targets(
    settings: Settings, route: RouteSettings, key: str, where: Callable[[str], str]
) -> Iterator[tuple[ConfigError, Sequence[str]]]:
    if route.targets and f"{key}.backend" in settings.sources:
        allowed = "the backend's URL alone, or [[route.target]] tables with a `url` each, not both"
        error = ConfigError(where(f"{key}.backend"), f"{key}.backend", route.backend, allowed)
        yield error, (f"{key}.backend", f"{key}.target")
    for number, target in enumerate(route.targets):
        inner = f"{key}.target[{number}]"
        if target.client_key and not target.client_cert:
            allowed = "client_key is the key of a client_cert"
            error = ConfigError(where(f"{inner}.client_key"), f"{inner}.client_cert", "", allowed, problem="is missing")
            yield error, (f"{inner}.client_key", f"{inner}.client_cert")
        if not target.url.startswith("https://"):
            for field in ("client_cert", "insecure", "trust_connect_host"):
                if getattr(target, field):
                    allowed = "it is about TLS, so the `url` must begin with https://"
                    problem = f"means nothing with url = {target.url!r}"
                    error = ConfigError(where(f"{inner}.{field}"), f"{inner}.{field}", "", allowed, problem=problem)
                    yield error, (f"{inner}.{field}", f"{inner}.url")
        if target.url == TEST_BACKEND and len(route.targets) > number + 1:
            allowed = f"`{TEST_BACKEND}` always answers: no target comes after it"
            yield ConfigError(where(f"{inner}.url"), f"{inner}.url", target.url, allowed), (f"{inner}.url",)


def _loopback(place: str) -> bool:
    return not place.startswith("*") and parse_address(place).is_loopback

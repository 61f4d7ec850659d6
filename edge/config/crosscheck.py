"""Rules between settings, all in one place: what must not stand together, and what only looks wrong.

Each contradiction comes with the settings it rests on, so that the loader can leave it out when one of those
is itself wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edge.config.addresses import parse_address
from edge.config.crosscheck_grip import grip_contradictions, grip_oddities
from edge.config.crosscheck_xmpp import xmpp_contradictions, xmpp_oddities
from edge.config.groups import RouteSettings, Secret, Settings
from edge.errors import ConfigError

SHORT_SECRET = 16
"""Characters; fewer can be guessed too easily to be worth signing with."""

Contradiction = tuple[ConfigError, Sequence[str]]
"""The error, and the dotted keys it rests on."""

Where = Callable[[str], str]
"""Dotted key → the file and line, flag or variable it came from."""


def contradictions(settings: Settings, where: Where) -> Iterator[Contradiction]:
    """What must not stand together, each as an error at the setting to change."""
    yield from _edge(settings, where)
    yield from _routes(settings, where)
    yield from _channels(settings, where)
    yield from grip_contradictions(settings, where)
    yield from xmpp_contradictions(settings, where)


def oddities(settings: Settings, where: Where) -> Iterator[str]:
    """What is accepted but probably not meant."""
    yield from _short(settings.edge.control_tokens, "edge.control_tokens", where)
    for index, route in enumerate(settings.routes):
        key = f"route[{index}]"
        yield from _short(route.secrets, f"{key}.secrets", where)
        times = route.timeouts
        if route.protocol == "callbacks" and times.handshake_s <= times.retry_window_s:
            yield (
                f"{where(f'{key}.timeouts.retry_window_s')}: {key}.timeouts.retry_window_s = "
                f"{times.retry_window_s:g} is not under handshake_s = {times.handshake_s:g}: a handshake "
                "whose backend is away ends with 504 before it could be told 503 and when to come again"
            )
    for index, publisher in enumerate(settings.publishers):
        yield from _short([publisher.key], f"publisher[{index}].key", where)
    yield from grip_oddities(settings, where)
    for index, server in enumerate(settings.xmpp):
        if server.component_secret is not None:
            yield from _short([server.component_secret], f"xmpp[{index}].component_secret", where)
    yield from xmpp_oddities(settings, where)


def _short(secrets: Sequence[Secret], key: str, where: Where) -> Iterator[str]:
    for position, secret in enumerate(secrets):
        if len(secret.value) < SHORT_SECRET:
            which = f"{key}[{position}]" if key.endswith("s") else key
            yield f"{where(key)}: {which} has fewer than {SHORT_SECRET} characters: use a longer secret"


def _edge(settings: Settings, where: Where) -> Iterator[Contradiction]:
    edge = settings.edge
    control = parse_address(edge.control)
    if not control.is_loopback and not edge.control_tokens and not settings.publishers:
        allowed = (
            "a loopback address such as 127.0.0.1:5561; anything else needs edge.control_tokens, or a [[publisher]] "
            "where it is for publishing only"
        )
        error = ConfigError(where("edge.control"), "edge.control", edge.control, allowed)
        yield error, ("edge.control", "edge.control_tokens")
    taken = {control: "edge.control"} if control.port else {}
    for text in edge.listen:
        address = parse_address(text)
        if address in taken:
            allowed = f"an address of its own: {taken[address]} has it already"
            error = ConfigError(where("edge.listen"), "edge.listen", text, allowed)
            yield error, ("edge.listen", "edge.control")
        if address.port:
            taken[address] = "edge.listen"
    for given, missing in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(edge, given) and not getattr(edge, missing):
            allowed = f"edge.{given} and edge.{missing} are given together or not at all"
            source = where(f"edge.{given}")
            error = ConfigError(source, f"edge.{missing}", "", allowed, problem="is missing")
            yield error, ("edge.tls_cert", "edge.tls_key")


def _routes(settings: Settings, where: Where) -> Iterator[Contradiction]:
    first: dict[tuple[str, ...], int] = {}
    releases: dict[tuple[str, str], tuple[int, RouteSettings]] = {}
    for index, route in enumerate(settings.routes):
        key = f"route[{index}]"
        twin = first.setdefault(route.claim, index)
        if twin != index:
            error = ConfigError(where(key), key, route.name, _claimed(settings, twin, where))
            yield error, [f"route[{at}].{field}" for at in (twin, index) for field in ("host", "path", "scheme", "tls")]
            continue
        at, other = releases.setdefault((route.app, route.release), (index, route))
        if other.backend != route.backend:
            allowed = (
                f"release {route.release!r} of app {route.app!r} is at {other.backend} (route[{at}]); "
                "give one of the routes another `app`"
            )
            error = ConfigError(where(f"{key}.backend"), f"{key}.backend", route.backend, allowed)
            rests_on = ("app", "release", "backend", "host", "path")
            yield error, [f"route[{number}].{field}" for number in (at, index) for field in rests_on]


def _claimed(settings: Settings, twin: int, where: Where) -> str:
    """Why another route cannot have what `twin` takes."""
    route = settings.routes[twin]
    of_file = settings.sources.get(f"route[{twin}]")
    owner = f"the one at {of_file}" if of_file else f"route[{twin}]"
    more = [f"{name} {value!r}" for name, value in (("scheme", route.scheme), ("tls", route.tls)) if value]
    has = ", ".join([f"host {route.host!r}", *more]) + f" and path {route.path!r}"
    return f"one route for each host and path: {owner} has {has} already"


def _channels(settings: Settings, where: Where) -> Iterator[Contradiction]:
    first: dict[str, int] = {}
    for index, channel in enumerate(settings.channels):
        twin = first.setdefault(channel.prefix, index)
        if twin != index:
            key = f"channel[{index}].prefix"
            error = ConfigError(where(key), key, channel.prefix, f"channel[{twin}] has this prefix already")
            yield error, (key, f"channel[{twin}].prefix")

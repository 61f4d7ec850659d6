"""What ``holdfast check --show`` prints: the settings as TOML, each value with where it came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from edge.config import Secret, Settings
from edge.config.crosscheck_grip import CALLBACKS_ONLY, GRIP_ONLY
from edge.config.crosscheck_xmpp import CLIENTS_ONLY
from edge.config.urls import without_userinfo


def settings_lines(settings: Settings) -> Iterator[tuple[str, str]]:
    """The settings as TOML, with the source of each value."""
    yield from _group("[edge]", "edge", settings.edge, settings.sources)
    for index, route in enumerate(settings.routes):
        key = f"route[{index}]"
        foreign = CALLBACKS_ONLY if route.protocol == "grip" else GRIP_ONLY
        silent = {f"{key}.{field}" for field in (*foreign, *(["backend"] if route.targets else []))}
        yield from _group("[[route]]", key, route, settings.sources, silent)
    for index, channel in enumerate(settings.channels):
        yield from _group("[[channel]]", f"channel[{index}]", channel, settings.sources)
    yield from _group("[grip]", "grip", settings.grip, settings.sources)
    for index, publisher in enumerate(settings.publishers):
        yield from _group("[[publisher]]", f"publisher[{index}]", publisher, settings.sources)
    for index, server in enumerate(settings.xmpp):
        key = f"xmpp[{index}]"
        silent = {f"{key}.{field}" for field in CLIENTS_ONLY if server.is_component}
        yield from _group("[[xmpp]]", key, server, settings.sources, silent)


def _group(
    header: str, key: str, group: Any, sources: Mapping[str, str], silent: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    """One table, and the tables inside it. `silent`: dotted keys of what does not belong there."""
    yield header, ""
    inside = header.strip("[]")
    nested: list[tuple[str, str, Any]] = []
    for field in dataclasses.fields(group):
        place, value = f"{key}.{field.name}", getattr(group, field.name)
        if place in silent or value is None:
            continue
        if dataclasses.is_dataclass(value) and not isinstance(value, Secret):
            nested.append((f"[{inside}.{field.name}]", place, value))
        elif field.name == "targets":
            nested += [(f"[[{inside}.target]]", f"{key}.target[{at}]", target) for at, target in enumerate(value)]
        else:
            yield f"{field.name} = {_toml(value)}", sources.get(place, "default")
    for table, place, value in nested:
        yield from _group(table, place, value, sources, silent)


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            text = without_userinfo(value).replace("\\", "\\\\").replace('"', '\\"')
            return f'"{text}"'
        case Secret():
            return '"•••"'
        case tuple():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
        case _:
            return f"{value}"

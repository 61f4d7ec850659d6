"""Reads settings: a TOML file, then ``HOLDFAST_*`` from the environment, then flags; what comes later wins.

Every wrong setting is reported, not the first only: each with the file and line (or variable, or flag), the
key, the value (never a secret one) and what is allowed. What is accepted is in `edge.config.schema`, how a table is
read in `edge.config.reading`, the rules between settings in `edge.config.crosscheck`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edge.config.crosscheck import contradictions, oddities
from edge.config.grip_routes import read_grip_routes
from edge.config.groups import (
    GRIP_DEFAULTS,
    ChannelSettings,
    EdgeSettings,
    GripRouteSettings,
    GripSettings,
    LimitSettings,
    PoolSettings,
    PublisherSettings,
    RouteSettings,
    Secret,
    Settings,
    TargetSettings,
    TimeoutSettings,
    XmppSettings,
)
from edge.config.reading import MISSING, Reading
from edge.config.schema import (
    CATCH_ALL,
    CHANNEL,
    CONFIG_VARIABLE,
    EDGE,
    FLAGS,
    GRIP,
    PUBLISHER,
    ROUTE,
    ROUTE_GROUPS,
    TABLES,
    TARGET,
    VARIABLES,
    XMPP,
)
from edge.config.toml_lines import Path
from edge.config.urls import secrets_in
from edge.errors import ConfigError, ConfigErrors

NO_ROUTE = (
    "give `--backend http://127.0.0.1:8000` to put one backend behind everything, or `--config "
    "holdfast.toml` with at least one [[route]] and its backend"
)
_SHAPES: Mapping[str, type] = {
    "limits": LimitSettings,
    "timeouts": TimeoutSettings,
    "pool": PoolSettings,
    "grip": GripRouteSettings,
}


def load(argv_overrides: Mapping[str, object], env: Mapping[str, str], config_path: str | None) -> Settings:
    """All settings, checked. Raises `ConfigErrors` with everything that is wrong.

    `argv_overrides`: dotted key (see `schema.FLAGS`) → text of the flag, or a list of texts for one that may
    be repeated. `env` also answers ``env:NAME`` secrets. Paths are relative to the working directory.
    """
    reading = Reading(env)
    document = reading.open(config_path) if config_path is not None else {}
    settings = replace(_settings(reading, document, _texts(env, argv_overrides)), sources=reading.sources)
    wrong = [error.key for error in reading.errors]
    # A contradiction that rests on a setting already found wrong would only distract.
    for error, rests_on in contradictions(settings, reading.where):
        if not any(_touches(key, other) for key in wrong for other in rests_on):
            reading.errors.append(error)
    if reading.errors:
        raise ConfigErrors(reading.errors)
    warnings = (*_strange_variables(env, reading.variables), *settings.warnings, *oddities(settings, reading.where))
    return replace(settings, warnings=warnings)


def secret_values(settings: Settings) -> tuple[Secret, ...]:
    """Every secret value in `settings`, for the log's mask."""
    found = [*settings.edge.control_tokens, *settings.edge.link_keys, *secrets_in(settings.edge.redis)]
    if settings.edge.release_webhook_secret is not None:
        found.append(settings.edge.release_webhook_secret)
    found.extend(publisher.key for publisher in settings.publishers)
    found.extend(server.component_secret for server in settings.xmpp if server.component_secret is not None)
    for route in settings.routes:
        found.extend(route.secrets)
    keys = [settings.grip.sig_key, *(route.grip.sig_key for route in settings.routes)]
    found.extend(key for key in keys if key != GripSettings().sig_key)  # everybody knows that one
    return tuple(dict.fromkeys(found))


Given = Sequence[tuple[str, object, str]]
"""(key, text, source) of variables and flags, those that win last."""


def _settings(reading: Reading, document: Mapping[str, Any], given: Given) -> Settings:
    reading.refuse_unknown(document, _TOP, ())
    edge = reading.table(reading.section(document.get("edge", {}), ("edge",)), EDGE, ("edge",))
    routes = [_route(reading, *place) for place in reading.sections(document.get("route", []), ("route",))]
    channels = [_channel(reading, *place) for place in reading.sections(document.get("channel", []), ("channel",))]
    common = reading.table(reading.section(document.get("grip", {}), ("grip",)), GRIP, ("grip",))
    publishers = [
        _publisher(reading, *place) for place in reading.sections(document.get("publisher", []), ("publisher",))
    ]
    servers = [_xmpp(reading, *place) for place in reading.sections(document.get("xmpp", []), ("xmpp",))]
    catch_all: dict[str, tuple[object, str]] = {}
    for key, text, source in given:
        value = reading.from_text(key, text, source)
        if value is MISSING:
            continue
        group, _, field = key.rpartition(".")
        if group:
            {"edge": edge, "grip": common}[group][field] = value
            reading.sources[key] = source
        else:
            catch_all[key] = (value, source)
    _catch_all(reading, routes, catch_all)
    grip = GripSettings(**common)
    built = [_built(reading, index, fields, grip) for index, fields in enumerate(routes)]
    warnings = _add_grip_routes(reading, built, edge.get("grip_routes", ""), grip)
    if not built and not reading.errors:
        where = reading.file or "settings"
        reading.errors.append(ConfigError(where, "route", "", NO_ROUTE, problem="is missing"))
    return Settings(
        edge=EdgeSettings(**edge),
        routes=tuple(built),
        channels=tuple(channels),
        grip=grip,
        publishers=tuple(publisher for publisher in publishers if publisher is not None),
        xmpp=tuple(server for server in servers if server is not None),
        warnings=warnings,
    )


_TOP = {name: header for name, header in TABLES.items() if "." not in name}


def _route(reading: Reading, table: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The fields of a route that are set and right; tables inside it as dictionaries of the same kind."""
    fields = reading.table(table, ROUTE, path, closed=False)
    for group, known in ROUTE_GROUPS.items():
        inner = reading.section(table.get(group, {}), (*path, group))
        fields[group] = reading.table(inner, known, (*path, group))
    places = reading.sections(table.get("target", []), (*path, "target"))
    targets = [_target(reading, *place) for place in places]
    fields["targets"] = tuple(target for target in targets if target is not None)
    reading.refuse_unknown(table, {**ROUTE, **ROUTE_GROUPS, "target": TABLES["route.target"]}, path)
    if "backend" not in table and "target" not in table:
        fields["backend"] = MISSING
    return fields


def _target(reading: Reading, table: Mapping[str, Any], path: Path) -> TargetSettings | None:
    fields = reading.table(table, TARGET, path)
    if "url" not in table:
        reading.missing(path, "url", "the URL of the backend, such as http://127.0.0.1:8000")
    return TargetSettings(**fields) if "url" in fields else None


def _channel(reading: Reading, table: Mapping[str, Any], path: Path) -> ChannelSettings:
    fields = reading.table(table, CHANNEL, path)
    if "prefix" not in table:
        reading.missing(path, "prefix", 'the beginning of the channels\' names; "" for all channels')
    return ChannelSettings(**{"prefix": "", **fields})


def _publisher(reading: Reading, table: Mapping[str, Any], path: Path) -> PublisherSettings | None:
    fields = reading.table(table, PUBLISHER, path)
    for field, allowed in (
        ("name", "the issuer (JWT) or user (Basic) that publishers give"),
        ("key", "what they sign with (or the PEM public key of it), or their password"),
    ):
        if field not in table:
            reading.missing(path, field, allowed)
    return PublisherSettings(**fields) if len(fields) == len(PUBLISHER) else None


def _xmpp(reading: Reading, table: Mapping[str, Any], path: Path) -> XmppSettings | None:
    fields = reading.table(table, XMPP, path)
    if "domain" not in table:
        reading.missing(path, "domain", "the domain of the addresses that links have, such as chat.example")
    if "component_secret" in table and "tls" not in table:
        fields["tls"] = "none"
    return XmppSettings(**fields) if "domain" in fields else None


def _catch_all(reading: Reading, routes: list[dict[str, Any]], given: Mapping[str, tuple[object, str]]) -> None:
    """`--backend`, `--grip` and what goes with them make, or change, the route that takes everything."""
    if not given:
        return
    if "backend" in given and "grip" in given:
        allowed = f"one backend behind everything: {given['backend'][1]} gives one already"
        reading.errors.append(ConfigError(given["grip"][1], "grip", given["grip"][0], allowed))
    places = [tuple(fields.get(key, default) for key, default in CATCH_ALL.items()) for fields in routes]
    everything = tuple(CATCH_ALL.values())
    if everything not in places:
        if "backend" not in given and "grip" not in given:
            allowed = "it signs for the route of --backend; a route of the file has its own `secrets`"
            reading.errors.append(ConfigError(given["secrets"][1], "secrets", Secret(""), allowed))
            return
        places.append(everything)
        routes.append({"targets": (), **{group: {} for group in ROUTE_GROUPS}})
    index = places.index(everything)
    fields = routes[index]
    for key, (value, source) in given.items():
        if key == "grip":
            fields |= {"backend": value, "protocol": "grip"}
            reading.sources |= {f"route[{index}].{field}": source for field in ("backend", "protocol")}
        else:
            fields[key] = value
            reading.sources[f"route[{index}].{key}"] = source


def _built(reading: Reading, index: int, fields: Mapping[str, Any], grip: GripSettings) -> RouteSettings:
    """The route, with the defaults of its protocol. Where there are targets, the first is where its release is."""
    fields = dict(fields)
    if fields.get("backend") is MISSING:
        reading.missing(("route", index), "backend", "the URL of the backend, such as http://127.0.0.1:8000")
        fields["backend"] = ""
    signing = {"sig_key": grip.sig_key, "sig_iss": grip.sig_iss}
    defaults = {**GRIP_DEFAULTS, "grip": signing} if fields.get("protocol") == "grip" else {}
    for group, shape in _SHAPES.items():
        fields[group] = shape(**{**defaults.get(group, {}), **fields[group]})
    if fields["targets"] and "backend" not in fields:
        fields["backend"] = fields["targets"][0].url
    return RouteSettings(**fields)


def _add_grip_routes(reading: Reading, routes: list[RouteSettings], path: str, grip: GripSettings) -> tuple[str, ...]:
    """Put the routes of a routes file behind the others; returns its warnings."""
    if not path:
        return ()
    found = read_grip_routes(path, grip.sig_key, grip.sig_iss)
    reading.errors += found.errors
    for route, line, given in zip(found.routes, found.lines, found.given, strict=True):
        key, source = f"route[{len(routes)}]", f"{path}:{line}"
        reading.sources |= {key: source, **{f"{key}.{name}": source for name in given}}
        routes.append(route)
    return tuple(found.warnings)


def _texts(env: Mapping[str, str], flags: Mapping[str, object]) -> Given:
    """What variables and flags say. An empty variable counts as not set, as charts and compose files produce them for
    "no value"."""
    found: list[tuple[str, object, str]] = [
        (key, env[variable], variable) for variable, key in VARIABLES.items() if env.get(variable)
    ]
    found.extend((key, text, FLAGS.get(key, key)) for key, text in flags.items())
    return found


def _touches(wrong: str, key: str) -> bool:
    """`wrong` is `key`, an element of it, or something around it."""
    return wrong == key or wrong.startswith((f"{key}[", f"{key}.")) or key.startswith((f"{wrong}[", f"{wrong}."))


def _strange_variables(env: Mapping[str, str], named: Collection[str]) -> list[str]:
    """Variables that look like a slip of the pen. Others are left alone: those `named` by a setting are used, and
    Kubernetes adds HOLDFAST_PORT and the like for a service called holdfast."""
    known = [*VARIABLES, CONFIG_VARIABLE]
    found = []
    for variable in sorted(env):
        if not variable.startswith("HOLDFAST_") or variable in known or variable in named:
            continue
        close = difflib.get_close_matches(variable, known, n=1, cutoff=0.93)
        if close:
            found.append(f"the environment variable {variable} is not used; did you mean {close[0]}?")
    return found

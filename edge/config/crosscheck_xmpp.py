"""Rules between settings of XMPP links: what belongs together, what must be secret, and what only looks wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edge.config.addresses import Address
from edge.config.groups import Settings, XmppSettings
from edge.config.xmpp_kinds import KEY_BYTES, decoded_key
from edge.errors import ConfigError

CLIENTS_ONLY = ("client_cert", "client_key", "plain_without_tls", "resume_s", "archive_after_resume")
"""Settings of a server that mean nothing for a component: it logs in with its secret, and resumes nothing."""
TLS_ONLY = ("ca_file", "client_cert", "client_key")
NONE_ONLY = ("plaintext", "plain_without_tls")
LONG_PASSPHRASE = 32
"""Characters that are surely enough, even of words."""
MAKE_A_KEY = f"make one by `openssl rand -base64 {KEY_BYTES}` and give it to every edge that shares the Redis"

Where = Callable[[str], str]
Contradiction = tuple[ConfigError, Sequence[str]]


def xmpp_contradictions(settings: Settings, where: Where) -> Iterator[Contradiction]:
    """See `edge.config.crosscheck.contradictions`."""
    if settings.xmpp and settings.edge.redis and not settings.edge.link_keys:
        allowed = f"the credentials of [[xmpp]] links are stored in edge.redis, sealed with a key: {MAKE_A_KEY}"
        error = ConfigError(where("edge.redis"), "edge.link_keys", "", allowed, problem="is missing")
        yield error, ("edge.link_keys", "edge.redis")
    first: dict[str, int] = {}
    for index, server in enumerate(settings.xmpp):
        key = f"xmpp[{index}]"
        twin = first.setdefault(server.domain, index)
        if twin != index:
            place, allowed = f"{key}.domain", f"xmpp[{twin}] has this domain already"
            yield ConfigError(where(place), place, server.domain, allowed), (place, f"xmpp[{twin}].domain")
        yield from _tls(server, key, where)
        if server.client_key and not server.client_cert:
            allowed = "client_key is the key of a client_cert"
            error = ConfigError(where(f"{key}.client_key"), f"{key}.client_cert", "", allowed, problem="is missing")
            yield error, (f"{key}.client_key", f"{key}.client_cert")
        if server.is_component:
            yield from _component(settings, server, key, where)


def xmpp_oddities(settings: Settings, where: Where) -> Iterator[str]:
    """See `edge.config.crosscheck.oddities`."""
    for position, secret in enumerate(settings.edge.link_keys):
        if len(secret.value) < LONG_PASSPHRASE and not decoded_key(secret):
            yield (
                f"{where('edge.link_keys')}: edge.link_keys[{position}] is a passphrase of fewer than "
                f"{LONG_PASSPHRASE} characters, which might be guessed: {MAKE_A_KEY}"
            )
    for index, server in enumerate(settings.xmpp):
        key = f"xmpp[{index}]"
        if server.tls != "none":
            for field in NONE_ONLY:
                if getattr(server, field):
                    yield f'{where(f"{key}.{field}")}: {key}.{field} means nothing with tls = "{server.tls}"'
        elif server.plain_without_tls and not _on_this_machine(server):
            yield (
                f"{where(f'{key}.plain_without_tls')}: {key} sends passwords to {server.host or server.domain!r} that "
                "everybody on the way can read"
            )


def _tls(server: XmppSettings, key: str, where: Where) -> Iterator[Contradiction]:
    if server.tls != "none":
        return
    if not server.plaintext and not _on_this_machine(server):
        others = '"direct"' if server.is_component else '"starttls" or "direct"'
        allowed = (
            f'{others}; without TLS only to a server on this machine (host = "127.0.0.1"), or with plaintext = true '
            "where the network in between is trusted"
        )
        error = ConfigError(where(f"{key}.tls"), f"{key}.tls", server.tls, allowed)
        yield error, [f"{key}.{field}" for field in ("tls", "host", "plaintext", "component_secret")]
    for field in TLS_ONLY:
        if getattr(server, field) and not (server.is_component and field in CLIENTS_ONLY):
            problem = 'means nothing with tls = "none"'
            error = ConfigError(where(f"{key}.{field}"), f"{key}.{field}", "", "it is about TLS", problem=problem)
            yield error, (f"{key}.{field}", f"{key}.tls", f"{key}.component_secret")


def _component(settings: Settings, server: XmppSettings, key: str, where: Where) -> Iterator[Contradiction]:
    for field in CLIENTS_ONLY:
        place = f"{key}.{field}"
        if place in settings.sources:
            problem = "means nothing with component_secret"
            allowed = "it is about users' links; a component logs in with its secret (XEP-0114)"
            error = ConfigError(where(place), place, "", allowed, problem=problem)
            yield error, (place, f"{key}.component_secret")
    if server.tls == "starttls":
        allowed = '"none" or "direct": components have no STARTTLS (XEP-0114)'
        error = ConfigError(where(f"{key}.tls"), f"{key}.tls", "starttls", allowed)
        yield error, (f"{key}.tls", f"{key}.component_secret")


def _on_this_machine(server: XmppSettings) -> bool:
    return Address(server.host, 0).is_loopback

"""What the loader makes of settings for XMPP links, and the exact words with which it refuses."""

from __future__ import annotations

import pickle
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from edge import cli
from edge.config import Secret, Settings, XmppSettings
from edge.config.loader import load, secret_values
from edge.config.xmpp_kinds import decoded_key, key_of
from edge.errors import ConfigErrors

ROUTE = '[[route]]\nbackend = "http://127.0.0.1:8000"\n'
ONE = '[[xmpp]]\ndomain = "chat.example"\n'
KEY = b64encode(bytes(range(32))).decode()
PASSPHRASE = "correct horse battery staple"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("any.pem").write_text("a certificate\n")


def loaded(text: str, env: dict[str, str] | None = None, /, **flags: object) -> Settings:
    Path("h.toml").write_text(text + ROUTE)
    return load({key.replace("__", "."): value for key, value in flags.items()}, env or {}, "h.toml")


def complaints(text: str, env: dict[str, str] | None = None, /, **flags: object) -> list[str]:
    with pytest.raises(ConfigErrors) as refused:
        loaded(text, env, **flags)
    return [str(error) for error in refused.value.errors]


def test_whole_servers() -> None:
    Path("old.key").write_text(f"{PASSPHRASE}, and more\n")
    settings = loaded(
        """
[edge]
redis = "redis://redis:6379/0"
link_keys = ["env:HOLDFAST_LINK_KEY", "file:old.key"]
[[xmpp]]
domain = "Chat.Example."
host = "xmpp.internal"
port = 5223
tls = "direct"
ca_file = "any.pem"
client_cert = "any.pem"
client_key = "any.pem"
logins_per_s = 50
resume_s = 300
negotiation_s = 10
silence_s = 60
answer_s = 5
stanza_bytes = 65_536
iq_reply_s = 3
archive_after_resume = true
[[xmpp]]
domain = "bots.example"
host = "::1"
component_secret = "a secret of the component"
""",
        {"HOLDFAST_LINK_KEY": KEY},
    )
    assert settings.xmpp == (
        XmppSettings(
            "chat.example", "xmpp.internal", 5223, "direct", ca_file="any.pem", client_cert="any.pem",
            client_key="any.pem", logins_per_s=50.0, resume_s=300, negotiation_s=10.0, silence_s=60.0, answer_s=5.0,
            stanza_bytes=65_536, iq_reply_s=3.0, archive_after_resume=True,
        ),
        XmppSettings("bots.example", "::1", tls="none", component_secret=Secret("a secret of the component")),
    )  # fmt: skip
    assert settings.edge.link_keys == (Secret(KEY), Secret(f"{PASSPHRASE}, and more"))
    assert settings.warnings == ()


def test_the_usual_ports() -> None:
    assert XmppSettings("a.example").usual_port == 5222
    assert XmppSettings("a.example", tls="direct").usual_port == 5223
    assert XmppSettings("a.example", tls="direct", component_secret=Secret("s")).usual_port == 5347


def test_domains_beyond_ascii() -> None:
    (server,) = loaded('[[xmpp]]\ndomain = "Bücher.example"\n').xmpp
    assert server.domain == "bücher.example"


def test_keys_are_bytes_in_base64_or_what_a_passphrase_hashes_to() -> None:
    assert key_of(Secret(KEY)) == decoded_key(Secret(KEY)) == bytes(range(32))
    for text in (PASSPHRASE, b64encode(bytes(16)).decode(), KEY[:-1]):
        assert key_of(Secret(text)) == sha256(text.encode()).digest()
        assert decoded_key(Secret(text)) == b""


WRONG: list[tuple[str, str, str]] = [
    # (why, file, the whole message)
    (
        "no domain",
        '[[xmpp]]\nhost = "a"\n',
        "h.toml:1: xmpp[0].domain is missing: the domain of the addresses that links have, such as chat.example",
    ),
    (
        "an address for a domain",
        '[[xmpp]]\ndomain = "me@chat.example"\n',
        "h.toml:2: xmpp[0].domain = 'me@chat.example' is not accepted: "
        "the domain of addresses, such as chat.example, without user or port",
    ),
    (
        "a label that DNS cannot carry",
        f'[[xmpp]]\ndomain = "{"a" * 64}.example"\n',
        f"h.toml:2: xmpp[0].domain = '{'a' * 64}.example' is not accepted: "
        "the domain of addresses, such as chat.example, without user or port",
    ),
    (
        "a port with the host",
        ONE + 'host = "a:5222"\n',
        "h.toml:3: xmpp[0].host = 'a:5222' is not accepted: "
        "a host name or an IP address without port, or empty for what DNS says of the domain",
    ),
    (
        "one domain twice",
        ONE + '[[xmpp]]\ndomain = "CHAT.example"\n',
        "h.toml:4: xmpp[1].domain = 'chat.example' is not accepted: xmpp[0] has this domain already",
    ),
    (
        "no TLS over a network",
        ONE + 'host = "10.0.0.1"\ntls = "none"\n',
        'h.toml:4: xmpp[0].tls = \'none\' is not accepted: "starttls" or "direct"; without TLS only to a server on '
        'this machine (host = "127.0.0.1"), or with plaintext = true where the network in between is trusted',
    ),
    (
        "no TLS to wherever DNS says",
        '[[xmpp]]\ndomain = "localhost"\ntls = "none"\n',
        'h.toml:3: xmpp[0].tls = \'none\' is not accepted: "starttls" or "direct"; without TLS only to a server on '
        'this machine (host = "127.0.0.1"), or with plaintext = true where the network in between is trusted',
    ),
    (
        "a component over a network",
        ONE + 'component_secret = "hush hush hush hush"\n',
        "h.toml:1: xmpp[0].tls = 'none' is not accepted: \"direct\"; without TLS only to a server on "
        'this machine (host = "127.0.0.1"), or with plaintext = true where the network in between is trusted',
    ),
    (
        "a component with STARTTLS",
        ONE + 'tls = "starttls"\ncomponent_secret = "hush hush hush hush"\n',
        "h.toml:3: xmpp[0].tls = 'starttls' is not accepted: "
        '"none" or "direct": components have no STARTTLS (XEP-0114)',
    ),
    (
        "a component that is a client, too",
        ONE + 'tls = "direct"\nclient_cert = "any.pem"\ncomponent_secret = "hush hush hush hush"\n',
        "h.toml:4: xmpp[0].client_cert means nothing with component_secret: "
        "it is about users' links; a component logs in with its secret (XEP-0114)",
    ),
    (
        "a component that resumes",
        ONE + 'host = "::1"\nresume_s = 3\ncomponent_secret = "hush hush hush hush"\n',
        "h.toml:4: xmpp[0].resume_s means nothing with component_secret: "
        "it is about users' links; a component logs in with its secret (XEP-0114)",
    ),
    (
        "a key without its certificate",
        ONE + 'client_key = "any.pem"\n',
        "h.toml:3: xmpp[0].client_cert is missing: client_key is the key of a client_cert",
    ),
    (
        "authorities without TLS",
        ONE + 'host = "127.0.0.1"\ntls = "none"\nca_file = "any.pem"\n',
        'h.toml:5: xmpp[0].ca_file means nothing with tls = "none": it is about TLS',
    ),
    (
        "a Redis of one's own and no keys",
        '[edge]\nredis = "redis://a"\n' + ONE,
        "h.toml:2: edge.link_keys is missing: the credentials of [[xmpp]] links are stored in edge.redis, sealed with "
        "a key: make one by `openssl rand -base64 32` and give it to every edge that shares the Redis",
    ),
    (
        "a key that is too short",
        '[edge]\nlink_keys = ["hush hush hush"]\n',
        "h.toml:2: edge.link_keys[0] = Secret(•••) is not accepted: base64 of 32 bytes (make it by "
        "`openssl rand -base64 32`), or a passphrase of at least 16 characters: itself, env:NAME, or file:/path",
    ),
    (
        "keys that are no list",
        '[edge]\nlink_keys = {a = "hush hush hush hush hush"}\n',
        "h.toml:2: edge.link_keys = Secret(•••) is not accepted: a list, each base64 of 32 bytes (make it by "
        "`openssl rand -base64 32`), or a passphrase of at least 16 characters: itself, env:NAME, or file:/path",
    ),
    (
        "a stanza size below what servers must take",
        ONE + "stanza_bytes = 9_999\n",
        "h.toml:3: xmpp[0].stanza_bytes = 9999 is not accepted: a whole number of bytes from 10000 to 1_073_741_824",
    ),
]


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_setting_is_refused_in_these_words(text: str, message: str) -> None:
    assert complaints(text) == [message]


def test_keys_from_the_environment() -> None:
    settings = loaded(ONE, {"HOLDFAST_LINK_KEYS": f"{KEY},env:OLD", "OLD": PASSPHRASE}, edge__redis="redis://a")
    assert settings.edge.link_keys == (Secret(KEY), Secret(PASSPHRASE))
    assert "hush" not in complaints(ONE, {"HOLDFAST_LINK_KEYS": "hush hush"})[0]


def test_without_servers_or_with_the_embedded_redis_no_key_need_be_given() -> None:
    assert loaded("", edge__redis="redis://a").edge.link_keys == ()
    assert loaded(ONE).edge.link_keys == ()


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            f'[edge]\nlink_keys = ["{PASSPHRASE}"]\n',
            "h.toml:2: edge.link_keys[0] is a passphrase of fewer than 32 characters, which might be guessed: make one "
            "by `openssl rand -base64 32` and give it to every edge that shares the Redis",
        ),
        (
            ONE + 'host = "127.0.0.1"\ncomponent_secret = "s3cret"\n',
            "h.toml:4: xmpp[0].component_secret has fewer than 16 characters: use a longer secret",
        ),
        (ONE + "plaintext = true\n", 'h.toml:3: xmpp[0].plaintext means nothing with tls = "starttls"'),
        (
            ONE + 'tls = "none"\nplaintext = true\nplain_without_tls = true\n',
            "h.toml:5: xmpp[0] sends passwords to 'chat.example' that everybody on the way can read",
        ),
        (f'[edge]\nlink_keys = ["{KEY}", "{PASSPHRASE}, and more"]\n', None),
        (ONE + 'host = "127.0.0.1"\ntls = "none"\nplain_without_tls = true\n', None),
    ],
)
def test_what_only_looks_wrong_is_a_warning(text: str, warning: str | None) -> None:
    assert list(loaded(text).warnings) == ([warning] if warning else [])


def test_a_variable_that_a_setting_names_is_no_slip_of_the_pen() -> None:
    named = '[edge]\nlink_keys = ["env:HOLDFAST_LINK_KEY"]\n'
    assert loaded(named, {"HOLDFAST_LINK_KEY": KEY}).warnings == ()
    (warning,) = loaded("", {"HOLDFAST_LINK_KEY": KEY}).warnings
    assert warning == "the environment variable HOLDFAST_LINK_KEY is not used; did you mean HOLDFAST_LINK_KEYS?"


SECRETS = f'[edge]\nlink_keys = ["{KEY}"]\n{ONE}host = "localhost"\ncomponent_secret = "hush hush hush hush"\n'


def test_secrets_are_masked_and_reach_the_workers() -> None:
    settings = loaded(SECRETS)
    assert {secret.value for secret in secret_values(settings)} == {KEY, "hush hush hush hush"}
    assert "hush" not in repr(settings)
    assert KEY not in repr(settings)
    arrived: Any = pickle.loads(pickle.dumps(settings))
    assert arrived == settings


def test_show_hides_secrets_and_leaves_out_what_a_component_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    Path("h.toml").write_text(SECRETS + '[[xmpp]]\ndomain = "b.example"\n' + ROUTE)
    assert cli.main(["check", "--show", "--config", "h.toml"]) == 0
    shown = capsys.readouterr().out
    assert "hush" not in shown
    assert KEY not in shown
    component, server = shown.split("[[xmpp]]\n")[1:]
    assert 'component_secret = "•••"' in component
    assert "resume_s" not in component
    assert "component_secret" not in server
    assert "resume_s = 600" in server

"""What the loader makes of settings for GRIP routes, and the exact words with which it refuses."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edge import cli
from edge.config import Secret, TargetSettings
from edge.config.loader import load, secret_values
from edge.errors import ConfigErrors

GRIP = '[[route]]\nprotocol = "grip"\n'
ONE = GRIP + 'backend = "http://127.0.0.1:8000"\n'
TARGET = GRIP + '[[route.target]]\nurl = "https://a:1"\n'


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(text: str, env: dict[str, str] | None = None, /, **flags: object) -> Any:
    Path("h.toml").write_text(text)
    return load(flags, env or {}, "h.toml")


def complaints(text: str, **flags: object) -> list[str]:
    with pytest.raises(ConfigErrors) as refused:
        loaded(text, {}, **flags)
    return [str(error) for error in refused.value.errors]


def pem(key: Any) -> str:
    text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def test_a_whole_grip_route() -> None:
    settings = loaded(
        """
[[route]]
protocol = "grip"
host = "chat.example"
path = "/chat"
scheme = "ws"
tls = "yes"
whole_segments = false
id = "chat"
[route.limits]
subscriptions = 5
[route.grip]
sig_key = "base64:aGVsbG8="
sig_iss = "me"
prefix = "chat-"
request_headers = ["X-One: 1", "Cookie:"]
[[route.target]]
url = "https://a:8443/base"
trust_connect_host = true
subscribe = ["all"]
[[route.target]]
url = "test"
[grip]
zmq_pull = "tcp://127.0.0.1:5560"
message_wait_s = 1
[[publisher]]
name = "realm"
key = "env:PUBLISHER_KEY"
""",
        {"PUBLISHER_KEY": "a key of some length"},
    )
    (route,) = settings.routes
    assert route.name == "chat"
    assert route.claim == ("chat.example", "/chat", "ws", "yes")
    assert route.targets == (
        TargetSettings("https://a:8443/base", trust_connect_host=True, subscribe=("all",)),
        TargetSettings("test"),
    )
    assert route.backend == "https://a:8443/base"
    assert route.limits.subscriptions == 5
    assert route.grip.request_headers == ("X-One: 1", "Cookie:")
    assert settings.grip.zmq_pull == "tcp://127.0.0.1:5560"
    assert settings.publishers[0].name == "realm"
    assert settings.sources["route[0].target[1].url"] == "h.toml:22"
    assert secret_values(settings) == (Secret("a key of some length"), Secret("base64:aGVsbG8="))


def test_defaults_depend_on_the_protocol() -> None:
    grip, callbacks = loaded(ONE + '[[route]]\npath = "/c"\napp = "c"\nbackend = "http://c"\n').routes
    assert (grip.limits.message_bytes, grip.limits.frame_bytes, grip.limits.subscriptions) == (200_000, 200_000, 20)
    assert (grip.timeouts.idle_s, grip.timeouts.ping_s, grip.timeouts.request_s) == (1_800, 0, 600)
    assert (callbacks.limits.message_bytes, callbacks.timeouts.ping_s) == (1_048_576, 25)


def test_names_tell_routes_apart() -> None:
    routes = loaded(
        "".join(
            f'{ONE}scheme = "{scheme}"\ntls = "{tls}"\n' for scheme in ("", "ws", "http") for tls in ("", "yes", "no")
        )
    ).routes
    names = [route.name for route in routes]
    assert names[:3] == ["*/", "*/ tls", "*/ no-tls"]
    assert names[3:5] == ["*/ ws", "*/ ws tls"]
    assert len(set(names)) == 9


def test_one_grip_backend_by_flag_or_variable() -> None:
    for settings in (
        load({"grip": "http://b:1", "grip.sig_key": "hush-hush"}, {}, None),
        load({}, {"HOLDFAST_GRIP": "http://b:1", "HOLDFAST_SIG_KEY": "hush-hush"}, None),
    ):
        (route,) = settings.routes
        assert (route.protocol, route.backend, route.claim) == ("grip", "http://b:1", ("*", "/", "", ""))
        assert route.grip.sig_key == Secret("hush-hush")
        assert route.limits.subscriptions == 20


def test_the_grip_flag_changes_the_route_of_the_file_that_takes_everything() -> None:
    (route,) = loaded(GRIP + "[route.grip]\ndebug = true\n", grip="http://b:1").routes
    assert (route.backend, route.grip.debug) == ("http://b:1", True)


WRONG: list[tuple[str, str, str]] = [
    # (why, file, the whole message)
    (
        "a callbacks setting",
        ONE + 'secrets = ["0123456789abcdef"]\n',
        'h.toml:4: route[0].secrets means nothing with protocol = "grip": it belongs to routes with protocol = '
        '"callbacks"; GRIP requests are signed with grip.sig_key',
    ),
    (
        "a callbacks group",
        ONE + "[route.pool]\nslots = 3\nbatch_events = 1\n",
        'h.toml:5: route[0].pool.slots means nothing with protocol = "grip": it belongs to routes with protocol = '
        '"callbacks"; grip.backend_connections bounds requests under way',
    ),
    (
        "a grip setting",
        '[[route]]\nbackend = "http://b"\n[route.grip]\ndebug = true\n',
        'h.toml:4: route[0].grip.debug means nothing with protocol = "callbacks": it belongs to routes with protocol = '
        '"grip"',
    ),
    (
        "http to callbacks",
        '[[route]]\nbackend = "http://b"\nscheme = "http"\n',
        "h.toml:3: route[0].scheme = 'http' is not accepted: "
        'empty or "ws": routes of protocol "callbacks" take WebSockets only',
    ),
    (
        "backend and targets",
        TARGET.replace("[[route.t", 'backend = "http://b"\n[[route.t'),
        "h.toml:3: route[0].backend = 'http://b' is not accepted: "
        "the backend's URL alone, or [[route.target]] tables with a `url` each, not both",
    ),
    (
        "neither backend nor target",
        GRIP,
        "h.toml:1: route[0].backend is missing: the URL of the backend, such as http://127.0.0.1:8000",
    ),
    (
        "a target without URL",
        GRIP + "[[route.target]]\none_event = true\n",
        "h.toml:3: route[0].target[0].url is missing: the URL of the backend, such as http://127.0.0.1:8000",
    ),
    (
        "a target's URL",
        GRIP + '[[route.target]]\nurl = "a:1"\n',
        "h.toml:4: route[0].target[0].url = 'a:1' is not accepted: "
        "http://host:port/path or https://…, without user name, query or fragment; or `test`",
    ),
    (
        "a key without certificate",
        TARGET + 'client_key = "h.toml"\n',
        "h.toml:5: route[0].target[0].client_cert is missing: client_key is the key of a client_cert",
    ),
    (
        "TLS to a backend without TLS",
        GRIP + '[[route.target]]\nurl = "http://a:1"\ninsecure = true\n',
        "h.toml:5: route[0].target[0].insecure means nothing with url = 'http://a:1': "
        "it is about TLS, so the `url` must begin with https://",
    ),
    (
        "a target behind the test backend",
        GRIP + '[[route.target]]\nurl = "test"\n[[route.target]]\nurl = "http://a"\n',
        "h.toml:4: route[0].target[0].url = 'test' is not accepted: `test` always answers: no target comes after it",
    ),
    (
        "a target that is no table",
        ONE.replace("backend", "target"),
        "h.toml:3: route[0].target = 'http://127.0.0.1:8000' is not accepted: tables, each under [[route.target]]",
    ),
    (
        "requests claimed twice",
        ONE + 'scheme = "ws"\n' + ONE + ONE + 'scheme = "ws"\n',
        "h.toml:8: route[2] = '*/ ws' is not accepted: one route for each host and path: "
        "route[0] has host '*', scheme 'ws' and path '/' already",
    ),
    (
        "a header line",
        ONE + '[route.grip]\nrequest_headers = ["X-One 1"]\n',
        "h.toml:5: route[0].grip.request_headers[0] = 'X-One 1' is not accepted: "
        "`Name: value` to set a header, `Name:` to remove it",
    ),
    (
        "a header line with a line end in it",
        ONE + '[route.grip]\nrequest_headers = ["X-One: 1\\r\\nX-Two: 2"]\n',
        "h.toml:5: route[0].grip.request_headers[0] = 'X-One: 1\\r\\nX-Two: 2' is not accepted: "
        "`Name: value` to set a header, `Name:` to remove it",
    ),
    (
        "a header that is the edge's to write",
        ONE + '[route.grip]\nrequest_headers = ["Transfer-Encoding: chunked"]\n',
        "h.toml:5: route[0].grip.request_headers[0] = 'Transfer-Encoding: chunked' is not accepted: "
        "any header but Transfer-Encoding: the edge writes it",
    ),
    (
        "a signing key in bad base64",
        ONE + '[route.grip]\nsig_key = "base64:hush!"\n',
        "h.toml:5: route[0].grip.sig_key = Secret(•••) is not accepted: base64 after base64:, with its padding (=)",
    ),
    (
        "a signing key in PEM that is none",
        ONE + '[route.grip]\nsig_key = "-----BEGIN PRIVATE KEY-----\\nhush"\n',
        "h.toml:5: route[0].grip.sig_key = Secret(•••) is not accepted: a PEM private key without passphrase, "
        "EC P-256 (ES256) or RSA of at least 2,048 bits (RS256)",
    ),
    (
        "a ZeroMQ address",
        ONE + '[grip]\nzmq_pull = "127.0.0.1:5560"\n',
        "h.toml:5: grip.zmq_pull = '127.0.0.1:5560' is not accepted: "
        "tcp://host:port, tcp://*:port, ipc:///path, or empty",
    ),
    (
        "a publisher without key",
        ONE + '[[publisher]]\nname = "a"\n',
        "h.toml:4: publisher[0].key is missing: what they sign with (or the PEM public key of it), or their password",
    ),
    (
        "a publisher twice",
        ONE + '[[publisher]]\nname = "a"\nkey = "b"\n[[publisher]]\nname = "a"\nkey = "c"\n',
        "h.toml:8: publisher[1].name = 'a' is not accepted: publisher[0] has this name already",
    ),
]


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_setting_is_refused_in_these_words(text: str, message: str) -> None:
    assert complaints(text) == [message]


def test_one_backend_behind_everything_is_enough() -> None:
    with pytest.raises(ConfigErrors) as refused:
        load({"grip": "http://a", "backend": "http://b"}, {}, None)
    assert str(refused.value) == (
        "--grip: grip = 'http://a' is not accepted: one backend behind everything: --backend gives one already"
    )


def test_routes_without_a_signing_key_take_the_common_one() -> None:
    text = ONE + ONE + 'path = "/b"\n[route.grip]\nsig_key = "b"\n[grip]\nsig_key = "all"\nsig_iss = "me"\n'
    assert [(r.grip.sig_key.value, r.grip.sig_iss) for r in loaded(text).routes] == [("all", "me"), ("b", "me")]
    flagged = loaded(text, {}, **{"grip.sig_key": "flag"})
    assert [r.grip.sig_key.value for r in flagged.routes] == ["flag", "b"]
    assert flagged.sources["grip.sig_key"] == "--sig-key"


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        (ec.generate_private_key(ec.SECP256R1()), True),
        (rsa.generate_private_key(65_537, 2_048), True),
        (ec.generate_private_key(ec.SECP384R1()), False),
        (ed25519.Ed25519PrivateKey.generate(), False),
    ],
    ids=["P-256", "RSA", "P-384", "Ed25519"],
)
def test_signing_keys_in_pem(key: Any, fits: bool) -> None:
    Path("key.pem").write_text(pem(key))
    text = ONE + '[route.grip]\nsig_key = "file:key.pem"\n'
    if fits:
        assert loaded(text).routes[0].grip.sig_key == Secret(pem(key).strip())
    else:
        assert "a PEM private key without passphrase, EC P-256" in complaints(text)[0]


def test_a_public_key_signs_nothing() -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    Path("key.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert "a PEM private key" in complaints(ONE + '[route.grip]\nsig_key = "file:key.pem"\n')[0]


def test_publishers_keys_in_pem_are_public_ones() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    text = ONE + '[[publisher]]\nname = "a"\nkey = "file:key.pem"\n'
    Path("key.pem").write_text(public)
    assert loaded(text).publishers[0].key == Secret(public.strip())
    Path("key.pem").write_text(pem(key))
    assert complaints(text) == [
        "h.toml:6: publisher[0].key = Secret(•••) is not accepted: "
        "a PEM public key, EC P-256 (ES256) or RSA of at least 2,048 bits (RS256)"
    ]


def test_a_short_key_of_a_publisher_is_warned_of() -> None:
    assert loaded(ONE + '[[publisher]]\nname = "a"\nkey = "short"\n').warnings == (
        "h.toml:6: publisher[0].key has fewer than 16 characters: use a longer secret",
    )


def test_the_well_known_key_is_warned_of_where_others_can_connect() -> None:
    edge = '[edge]\nlisten = [":7999"]\n'
    (warning,) = loaded(edge + ONE + ONE + 'path = "/b"\n').warnings
    assert warning.startswith(
        "h.toml:3: route '*/' (and 1 more) signs requests with grip.sig_key = \"changeme\", which"
    )
    assert loaded(ONE).warnings == ()
    (warning,) = load({"grip": "http://b", "edge.listen": ":1"}, {}, None).warnings
    assert warning.startswith("--grip: route '*/' signs requests with")
    assert loaded(edge + ONE + '[route.grip]\nsig_key = "mine"\n').warnings == ()


def test_zeromq_that_anybody_reaches_is_warned_of() -> None:
    (warning,) = loaded(ONE + '[grip]\nzmq_sub = "tcp://*:5562"\n').warnings
    assert warning.startswith("h.toml:5: grip.zmq_sub = 'tcp://*:5562' takes publications from anybody")
    assert loaded(ONE + '[grip]\nzmq_sub = "ipc:///run/sub"\nzmq_pull = "tcp://[::1]:5560"\n').warnings == ()


def test_show_gives_a_file_that_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    Path("h.toml").write_text(
        TARGET + 'subscribe = ["a"]\n[[route]]\npath = "/c"\napp = "c"\nbackend = "http://c"\n'
        '[[publisher]]\nname = "p"\nkey = "hush-hush"\n[[channel]]\nprefix = "x"\n'
    )
    assert cli.main(["check", "--show", "--config", "h.toml"]) == 0
    shown = capsys.readouterr().out
    assert "hush" not in shown
    assert "changeme" not in shown
    assert tomllib.loads(shown)["route"][0]["target"] == [
        {
            "url": "https://a:1", "over_http": True, "one_event": False, "host": "", "insecure": False,
            "trust_connect_host": False, "client_cert": "", "client_key": "", "subscribe": ["a"],
        }
    ]  # fmt: skip
    Path("again.toml").write_text(shown)
    assert cli.main(["check", "--show", "--config", "again.toml"]) == 0
    assert tomllib.loads(capsys.readouterr().out) == tomllib.loads(shown)

"""What the loader accepts, and the exact words with which it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import RouteSettings, Secret
from edge.config.groups import Settings
from edge.config.loader import load, secret_values
from edge.config.schema import (
    CHANNEL,
    EDGE,
    FLAGS,
    GRIP,
    GRIP_ROUTE,
    GROUPS,
    LIMITS,
    POOL,
    PUBLISHER,
    ROUTE,
    ROUTE_GROUPS,
    TARGET,
    TIMEOUTS,
    VARIABLES,
    XMPP,
    kind_of,
)
from edge.errors import ConfigErrors

BACKEND = {"backend": "http://127.0.0.1:8000"}
ROUTE_TOML = '[[route]]\nbackend = "http://127.0.0.1:8000"\n'
GRIP_TOML = ROUTE_TOML + 'protocol = "grip"\n'
TARGETS_TOML = (
    '[[route]]\nprotocol = "grip"\n[[route.target]]\nurl = "http://a:1"\n[[route.target]]\nurl = "http://b:2"\n'
)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write the text as `holdfast.toml` in a working directory of its own, and give its relative name."""
    monkeypatch.chdir(tmp_path)

    def put(text: str, name: str = "holdfast.toml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return put


def complaints(text: str | None, write: Any, env: dict[str, str] | None = None, **flags: object) -> list[str]:
    """Every message of a refused configuration."""
    path = None if text is None else write(text)
    overrides = {key.replace("__", "."): value for key, value in flags.items()}
    with pytest.raises(ConfigErrors) as refused:
        load(overrides, env or {}, path)
    return [str(error) for error in refused.value.errors]


def test_the_tables_and_the_groups_name_the_same_settings() -> None:
    for group, table in GROUPS.items():
        nested = {*ROUTE_GROUPS, "targets"} if group is RouteSettings else set()
        assert {field.name for field in dataclasses.fields(group)} - nested == set(table), group


def test_every_default_is_accepted_by_its_own_rule() -> None:
    for group, table in GROUPS.items():
        for field in dataclasses.fields(group):
            if field.name in table and field.default not in (dataclasses.MISSING, "", None):
                default = list(field.default) if isinstance(field.default, tuple) else field.default
                default = default.value if isinstance(default, Secret) else default
                read = table[field.name].read(default, {})
                assert read == field.default, field.name


def test_flags_and_variables_lead_to_known_settings() -> None:
    for key in [*FLAGS, *VARIABLES.values()]:
        assert kind_of(key)


def test_a_whole_file(write: Any) -> None:
    path = write(
        """
[edge]
listen = ["0.0.0.0:7999", "[::1]:80"]
control = "127.0.0.1:5561"
redis = "redis://redis:6379/0"
workers = 2
control_tokens = ["env:HOLDFAST_TOKEN"]
trusted_proxies = ["10.0.0.1/8"]
[[route]]
app = "chat"
host = "Chat.Example"
backend = "https://backend:8443/base"
callback_path = "/callbacks"
secrets = ["a literal that is long enough", "file:secret.txt"]
origins = ["https://*.chat.example", "http://localhost:3000"]
compression = true
[route.limits]
message_bytes = 4_096
messages_per_s = 50
[route.timeouts]
retry_window_s = 3
[route.pool]
slots = 4
[[route]]
app = "other"
path = "/other"
backend = "http://[::1]:9000"
[[channel]]
prefix = "room:"
history_count = 100
"""
    )
    Path("secret.txt").write_text("from a file, with a line end\n")
    settings = load({}, {"HOLDFAST_TOKEN": "0123456789abcdef"}, path)
    assert settings.edge.listen == ("0.0.0.0:7999", "[::1]:80")
    assert settings.edge.trusted_proxies == ("10.0.0.0/8",)
    assert settings.edge.control_tokens == (Secret("0123456789abcdef"),)
    chat, other = settings.routes
    assert (chat.name, chat.backend, chat.callback_path) == (
        "chat.example/",
        "https://backend:8443/base",
        "/callbacks",
    )
    assert chat.secrets == (
        Secret("a literal that is long enough"),
        Secret("from a file, with a line end"),
    )
    assert chat.limits.message_bytes == 4_096
    assert chat.limits.messages_per_s == 50.0
    assert chat.timeouts.retry_window_s == 3.0
    assert chat.pool.slots == 4
    assert other.name == "*/other"
    assert settings.channels[0].history_count == 100
    assert settings.sources["edge.workers"] == "holdfast.toml:6"
    assert settings.sources["route[0].limits.message_bytes"] == "holdfast.toml:18"
    assert settings.sources["route[1].backend"] == "holdfast.toml:27"
    assert settings.warnings == ()
    assert {secret.value for secret in secret_values(settings)} == {
        "0123456789abcdef",
        "a literal that is long enough",
        "from a file, with a line end",
    }


def test_later_sources_win(write: Any) -> None:
    path = write('[edge]\nworkers = 2\nlog_level = "debug"\ndrain_delay_s = 9\n' + ROUTE_TOML)
    settings = load(
        {"edge.workers": "4", "edge.listen": ["127.0.0.1:1", "127.0.0.1:2,127.0.0.1:3"]},
        {"HOLDFAST_WORKERS": "3", "HOLDFAST_LOG_LEVEL": "error", "HOLDFAST_REDIS": ""},
        path,
    )
    assert settings.edge.workers == 4
    assert settings.edge.log_level == "error"
    assert settings.edge.drain_delay_s == 9.0
    assert settings.edge.listen == ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
    assert settings.sources["edge.workers"] == "--workers"
    assert settings.sources["edge.log_level"] == "HOLDFAST_LOG_LEVEL"
    assert settings.sources["edge.drain_delay_s"] == "holdfast.toml:4"
    assert "edge.redis" not in settings.sources


def test_a_backend_flag_makes_one_route() -> None:
    settings = load({**BACKEND, "secrets": ["0123456789abcdef"]}, {}, None)
    (route,) = settings.routes
    assert (route.host, route.path, route.backend) == ("*", "/", "http://127.0.0.1:8000")
    assert route.secrets == (Secret("0123456789abcdef"),)
    assert settings.sources["route[0].backend"] == "--backend"


def test_a_backend_flag_changes_the_route_of_the_file_that_takes_everything(write: Any) -> None:
    path = write('[[route]]\nhost = "a.example"\nbackend = "http://a"\n[[route]]\napp = "b"\npolicy = "pin"\n')
    settings = load({}, {"HOLDFAST_BACKEND": "http://b"}, path)
    assert [(route.host, route.backend, route.policy) for route in settings.routes] == [
        ("a.example", "http://a", "follow"),
        ("*", "http://b", "pin"),
    ]


def test_redis_may_be_a_reference() -> None:
    url = "redis://:a%20long%20password@redis:6379/0"
    settings = load({**BACKEND, "edge.redis": "env:REDIS_URL"}, {"REDIS_URL": url}, None)
    assert settings.edge.redis == url
    assert {secret.value for secret in secret_values(settings)} == {"a long password", "a%20long%20password"}


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "rediss://user:pass@redis:6380/2",
        "unix:///run/redis.sock?db=1",
        "redis+sentinel://a:26379,b:26379/mymaster/0",
        "redis+cluster://a:7000,b:7001",
    ],
)
def test_redis_urls(url: str) -> None:
    assert load({**BACKEND, "edge.redis": url}, {}, None).edge.redis == url


WRONG: list[tuple[str, str, str]] = [
    # (why, file, the whole message)
    (
        "type",
        '[edge]\nworkers = "two"\n' + ROUTE_TOML,
        "holdfast.toml:2: edge.workers = 'two' is not accepted: a whole number of processes from 1 to 256",
    ),
    (
        "true is not a number",
        "[edge]\nworkers = true\n" + ROUTE_TOML,
        "holdfast.toml:2: edge.workers = True is not accepted: a whole number of processes from 1 to 256",
    ),
    (
        "range",
        ROUTE_TOML + "[route.limits]\nmessage_bytes = 0\n",
        "holdfast.toml:4: route[0].limits.message_bytes = 0 is not accepted: "
        "a whole number of bytes from 1 to 1_073_741_824",
    ),
    (
        "not a number",
        ROUTE_TOML + "[route.timeouts]\nrequest_s = nan\n",
        "holdfast.toml:4: route[0].timeouts.request_s = nan is not accepted: "
        "a number of seconds above 0 and up to 86_400",
    ),
    (
        "a unit where a number belongs",
        '[edge]\ndrain_delay_s = "3s"\n' + ROUTE_TOML,
        "holdfast.toml:2: edge.drain_delay_s = '3s' is not accepted: a number of seconds from 0 to 86_400 (0: at once)",
    ),
    (
        "word",
        '[[route]]\nbackend = "http://b"\npolicy = "sticky"\n',
        "holdfast.toml:3: route[0].policy = 'sticky' is not accepted: one of follow, pin",
    ),
    (
        "unknown key with a near one",
        '[edge]\n\nlisten_on = "127.0.0.1:1"\n' + ROUTE_TOML,
        "holdfast.toml:3: edge.listen_on is not a known setting: did you mean edge.listen?",
    ),
    (
        "unknown key with no near one",
        ROUTE_TOML + "[route.pool]\nzzz = 1\n",
        "holdfast.toml:4: route[0].pool.zzz is not a known setting: known are slots, batch_events, batch_bytes",
    ),
    (
        "unknown table",
        "[[routes]]\n" + ROUTE_TOML,
        "holdfast.toml:1: routes is not a known setting: did you mean route?",
    ),
    (
        "a table in the place of tables",
        '[route]\nbackend = "http://b"\n',
        "holdfast.toml:1: route = {'backend': 'http://b'} is not accepted: tables, each under [[route]]",
    ),
    (
        "a value in the place of a table",
        '[[route]]\nbackend = "http://b"\nlimits = 3\n',
        "holdfast.toml:3: route[0].limits = 3 is not accepted: a table of settings",
    ),
    (
        "backend scheme",
        '[[route]]\nbackend = "ftp://b"\n',
        "holdfast.toml:2: route[0].backend = 'ftp://b' is not accepted: "
        "http://host:port/path or https://…, without user name, query or fragment",
    ),
    (
        "backend with a password",
        '[[route]]\nbackend = "http://me:hush@b"\n',
        "holdfast.toml:2: route[0].backend = 'http://•••@b' is not accepted: "
        "a URL without user name or password (sign requests with `secrets`)",
    ),
    (
        "backend with a bad port and a password",
        '[[route]]\nbackend = "http://me:hush@b:port"\n',
        "holdfast.toml:2: route[0].backend = 'http://•••@b:port' is not accepted: "
        "http://host:port/path or https://…, without user name, query or fragment",
    ),
    (
        "release URL with a placeholder we do not know",
        '[[route]]\nbackend = "http://b"\nrelease_urls = ["http://{sha}.b:8000", "http://{name}.b"]\n',
        "holdfast.toml:3: route[0].release_urls[1] = 'http://{name}.b' is not accepted: "
        "a URL like that of a backend; {sha} in it stands for the release",
    ),
    (
        "no backend",
        "[[route]]\npath = '/a'\n",
        "holdfast.toml:1: route[0].backend is missing: the URL of the backend, such as http://127.0.0.1:8000",
    ),
    (
        "address",
        '[edge]\nlisten = ["127.0.0.1:7999", "localhost"]\n' + ROUTE_TOML,
        "holdfast.toml:2: edge.listen[1] = 'localhost' is not accepted: "
        "host:port, [v6 address]:port or :port, the port from 0 to 65535 (0: any free one)",
    ),
    (
        "nowhere to listen",
        "[edge]\nlisten = []\n" + ROUTE_TOML,
        "holdfast.toml:2: edge.listen = [] is not accepted: at least 1, each "
        "host:port, [v6 address]:port or :port, the port from 0 to 65535 (0: any free one)",
    ),
    (
        "redis, without its password",
        '[edge]\nredis = "reddis://:hush@host"\n' + ROUTE_TOML,
        "holdfast.toml:2: edge.redis = 'reddis://•••@host' is not accepted: "
        "redis://host:port/db, rediss://…, unix:///path, redis+sentinel://h1,h2/service/db, "
        "redis+cluster://h1,h2, env:NAME, file:/path, or empty for an embedded Redis",
    ),
    (
        "redis at a port that is none, without any password",
        '[edge]\nredis = "redis+sentinel://:hush@a:port/main?sentinel_password=hush"\n' + ROUTE_TOML,
        "holdfast.toml:2: edge.redis = 'redis+sentinel://•••@a:port/main?sentinel_password=•••' is not accepted: "
        "a port must be a number from 1 to 65535; redis://host:6379/0, rediss://host:6379/0, unix:///path, "
        "redis+sentinel://h1:26379,h2:26379/service/0 or redis+cluster://h1:6379,h2:6379",
    ),
    (
        "secret of the wrong type is not shown",
        '[[route]]\nbackend = "http://b"\nsecrets = [12345678]\n',
        "holdfast.toml:3: route[0].secrets[0] = Secret(•••) is not accepted: "
        "a secret that is not empty: itself, env:NAME, or file:/path",
    ),
    (
        "secrets that are no list are not shown",
        '[[route]]\nbackend = "http://b"\nsecrets = {a = "hush"}\n',
        "holdfast.toml:3: route[0].secrets = Secret(•••) is not accepted: "
        "a list, each a secret that is not empty: itself, env:NAME, or file:/path",
    ),
    (
        "empty secret",
        '[[route]]\nbackend = "http://b"\nsecrets = [""]\n',
        "holdfast.toml:3: route[0].secrets[0] = Secret(•••) is not accepted: "
        "a secret that is not empty: itself, env:NAME, or file:/path",
    ),
    (
        "secret from a missing variable",
        '[[route]]\nbackend = "http://b"\nsecrets = ["env:NOT_THERE"]\n',
        "holdfast.toml:3: route[0].secrets[0] = 'env:NOT_THERE' is not accepted: "
        "the environment variable NOT_THERE must be set and not empty",
    ),
    (
        "secret from a missing file",
        '[[route]]\nbackend = "http://b"\nsecrets = ["file:not-there"]\n',
        "holdfast.toml:3: route[0].secrets[0] = 'file:not-there' is not accepted: "
        "the file not-there must be readable (No such file or directory)",
    ),
    (
        "tls file",
        '[edge]\ntls_cert = "not-there.pem"\n' + ROUTE_TOML,
        "holdfast.toml:2: edge.tls_cert = 'not-there.pem' is not accepted: the path of a readable file",
    ),
    (
        "half of tls",
        '[edge]\ntls_cert = "holdfast.toml"\n' + ROUTE_TOML,
        "holdfast.toml:2: edge.tls_key is missing: edge.tls_cert and edge.tls_key are given together or not at all",
    ),
    (
        "open control port",
        '[edge]\ncontrol = "0.0.0.0:5561"\n' + ROUTE_TOML,
        "holdfast.toml:2: edge.control = '0.0.0.0:5561' is not accepted: "
        "a loopback address such as 127.0.0.1:5561; anything else needs edge.control_tokens, or a [[publisher]] "
        "where it is for publishing only",
    ),
    (
        "control port on all interfaces by leaving the host out",
        '[edge]\ncontrol = ":5561"\n' + ROUTE_TOML,
        "holdfast.toml:2: edge.control = ':5561' is not accepted: "
        "a loopback address such as 127.0.0.1:5561; anything else needs edge.control_tokens, or a [[publisher]] "
        "where it is for publishing only",
    ),
    (
        "one address twice",
        '[edge]\nlisten = ["127.0.0.1:5561"]\n' + ROUTE_TOML,
        "holdfast.toml:2: edge.listen = '127.0.0.1:5561' is not accepted: "
        "an address of its own: edge.control has it already",
    ),
    (
        "one place twice",
        '[[route]]\nbackend = "http://a"\nhost="A.example"\n[[route]]\nbackend = "http://b"\nhost="a.example"\n',
        "holdfast.toml:4: route[1] = 'a.example/' is not accepted: one route for each host and path: "
        "route[0] has host 'a.example' and path '/' already",
    ),
    (
        "one release at two places",
        '[[route]]\nbackend = "http://a"\n[[route]]\nbackend = "http://b"\npath = "/b"\n',
        "holdfast.toml:4: route[1].backend = 'http://b' is not accepted: "
        "release 'default' of app 'default' is at http://a (route[0]); give one of the routes another `app`",
    ),
    (
        "one prefix twice",
        ROUTE_TOML + '[[channel]]\nprefix = "a"\n[[channel]]\nprefix = "a"\n',
        "holdfast.toml:6: channel[1].prefix = 'a' is not accepted: channel[0] has this prefix already",
    ),
    (
        "no route",
        "[edge]\nworkers = 1\n",
        "holdfast.toml: route is missing: give `--backend http://127.0.0.1:8000` to put one backend behind "
        "everything, or `--config holdfast.toml` with at least one [[route]] and its backend",
    ),
    (
        "not TOML",
        "[edge\n",
        "holdfast.toml: file is not TOML: Expected ']' at the end of a table declaration (at line 1, column 6)",
    ),
]


@pytest.mark.parametrize(("text", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_setting_is_refused_in_these_words(text: str, message: str, write: Any) -> None:
    assert complaints(text, write) == [message]


def test_neither_file_nor_backend(write: Any) -> None:
    assert complaints(None, write) == [
        "settings: route is missing: give `--backend http://127.0.0.1:8000` to put one backend behind "
        "everything, or `--config holdfast.toml` with at least one [[route]] and its backend"
    ]


def test_a_missing_file(write: Any) -> None:
    with pytest.raises(ConfigErrors) as refused:
        load(BACKEND, {}, "nowhere.toml")
    assert str(refused.value) == "nowhere.toml: --config cannot be read: No such file or directory"


def test_wrong_flags_and_variables_are_named(write: Any) -> None:
    env = {"HOLDFAST_WORKERS": "many", "HOLDFAST_CONTROL_TOKENS": "env:NOPE"}
    assert complaints(None, write, env, backend="127.0.0.1:8000", edge__drain_delay_s="-1") == [
        "HOLDFAST_WORKERS: edge.workers = 'many' is not accepted: a whole number of processes from 1 to 256",
        "HOLDFAST_CONTROL_TOKENS: edge.control_tokens[0] = 'env:NOPE' is not accepted: "
        "the environment variable NOPE must be set and not empty",
        "--backend: backend = '127.0.0.1:8000' is not accepted: "
        "http://host:port/path or https://…, without user name, query or fragment",
        "--drain-delay: edge.drain_delay_s = '-1' is not accepted: a number of seconds from 0 to 86_400 (0: at once)",
    ]


def test_everything_wrong_is_reported_at_once(write: Any) -> None:
    text = (
        '[edge]\ncontrol = "0.0.0.0:1"\nworkers = 0\nlog_level = "loud"\n'
        '[[route]]\nbackend = "http://b"\ncolour = "blue"\n[route.limits]\nheaders = -1\n'
    )
    assert [message.split(" ")[1] for message in complaints(text, write)] == [
        "edge.workers",
        "edge.log_level",
        "route[0].limits.headers",
        "route[0].colour",
        "edge.control",
    ]


def test_a_contradiction_that_rests_on_a_wrong_setting_is_not_reported(write: Any) -> None:
    text = '[edge]\ncontrol = "0.0.0.0:1"\ncontrol_tokens = ["env:NOPE"]\n' + ROUTE_TOML
    assert [message.split(" ")[1] for message in complaints(text, write)] == ["edge.control_tokens[0]"]


def test_what_only_looks_wrong_is_a_warning(write: Any) -> None:
    path = write('[[route]]\nbackend = "http://b"\nsecrets = ["short"]\n[route.timeouts]\nretry_window_s = 60\n')
    env = {"HOLDFAST_LISTN": "x", "HOLDFAST_PORT": "tcp://10.0.0.1:7999", "HOLDFAST_TOKEN": "x"}
    assert list(load({}, env, path).warnings) == [
        "the environment variable HOLDFAST_LISTN is not used; did you mean HOLDFAST_LISTEN?",
        "holdfast.toml:3: route[0].secrets[0] has fewer than 16 characters: use a longer secret",
        "holdfast.toml:5: route[0].timeouts.retry_window_s = 60 is not under handshake_s = 35: a handshake "
        "whose backend is away ends with 504 before it could be told 503 and when to come again",
    ]


def test_no_error_shows_a_secret(write: Any) -> None:
    text = '[[route]]\nbackend = "http://b"\nsecrets = ["hush-hush-hush-hush", 3]\nsecret = "hush-hush"\n'
    assert "hush" not in "\n".join(complaints(text, write, {"HOLDFAST_CONTROL_TOKENS": "hush", "X": "hush"}))


def test_settings_print_without_secrets() -> None:
    settings: Settings = load({**BACKEND, "secrets": ["hush-hush-hush-hush"]}, {}, None)
    assert "hush" not in repr(settings)


TABLES = {
    "edge": ("[edge]\n{}" + ROUTE_TOML, set(EDGE)),
    "route[0]": (ROUTE_TOML + "{}", {*ROUTE, *ROUTE_GROUPS, "target"}),
    "route[0].limits": (ROUTE_TOML + "[route.limits]\n{}", set(LIMITS)),
    "route[0].timeouts": (ROUTE_TOML + "[route.timeouts]\n{}", set(TIMEOUTS)),
    "route[0].pool": (ROUTE_TOML + "[route.pool]\n{}", set(POOL)),
    "channel[0]": (ROUTE_TOML + '[[channel]]\nprefix = ""\n{}', set(CHANNEL)),
    "route[0].grip": (GRIP_TOML + "[route.grip]\n{}", set(GRIP_ROUTE)),
    "route[0].target[1]": (TARGETS_TOML + "{}", set(TARGET)),
    "grip": ("[grip]\n{}" + ROUTE_TOML, set(GRIP)),
    "publisher[0]": (ROUTE_TOML + '[[publisher]]\nname = "a"\nkey = "b"\n{}', set(PUBLISHER)),
    "xmpp[0]": (ROUTE_TOML + '[[xmpp]]\ndomain = "a.example"\n{}', set(XMPP)),
    "": ("{}" + ROUTE_TOML, {"edge", "route", "channel", "grip", "publisher", "xmpp"}),
}


@given(
    table=st.sampled_from(sorted(TABLES)),
    key=st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=20),
    value=st.sampled_from(["1", "true", '"x"', "[]", "{}", "1979-05-27"]),
)
def test_any_unknown_key_anywhere_is_found(
    tmp_path_factory: pytest.TempPathFactory, table: str, key: str, value: str
) -> None:
    template, known = TABLES[table]
    if key in known:
        return
    text = template.format(f"{key} = {value}\n")
    path = tmp_path_factory.getbasetemp() / "unknown.toml"
    path.write_text(text)
    with pytest.raises(ConfigErrors) as refused:
        load({}, {}, str(path))
    (error,) = refused.value.errors
    line = text.splitlines().index(f"{key} = {value}") + 1
    dotted = f"{table}.{key}" if table else key
    assert str(error).startswith(f"{path}:{line}: {dotted} is not a known setting: ")

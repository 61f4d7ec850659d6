"""What a routes file of Pushpin's becomes, and the exact words about what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge import cli
from edge.config import GripRouteSettings, RouteSettings, Secret, Settings, TargetSettings
from edge.config.loader import load
from edge.errors import ConfigErrors
from edge.model.routing import rewritten
from edge.sessions.routes import Routes, claim_of
from edge.telemetry.metrics import Metrics


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, env: dict[str, str] | None = None, toml: str = "", **flags: object) -> Settings:
    Path("routes").write_text(text)
    if toml:
        Path("h.toml").write_text(toml)
    return load({"edge.grip_routes": "routes", **flags}, env or {}, "h.toml" if toml else None)


def route(line: str) -> RouteSettings:
    (only,) = read(line + "\n").routes
    return only


def complaints(text: str, **more: Any) -> list[str]:
    with pytest.raises(ConfigErrors) as refused:
        read(text, **more)
    return [str(error) for error in refused.value.errors]


def test_the_shortest_route_has_what_pushpin_would_do() -> None:
    only = route("* localhost:8000")
    assert only.claim == ("*", "/", "", "")
    assert (only.protocol, only.whole_segments) == ("grip", False)
    assert only.targets == (TargetSettings("http://localhost:8000", over_http=False),)
    assert only.grip == GripRouteSettings()
    assert (only.limits.message_bytes, only.limits.subscriptions) == (200_000, 20)
    assert (only.timeouts.idle_s, only.timeouts.ping_s, only.timeouts.request_s) == (1_800, 0, 600)


def test_everything_a_route_can_say() -> None:
    only = route(
        "Chat.Example,proto=ws,ssl=yes,path_beg=/chat,id=chat,path_rem=5,as_host=inner.example:81,sig_iss=me,"
        'sig_key=base64:aGVsbG8,prefix=c-,"header=X-One: 1",header=Cookie:,debug '
        "[::1]:8443,ssl,insecure,trust_connect_host,host=b.example,over_http,one_event,sub=a,sub=,sub=b "
        "10.0.0.2:80,insecure,over_http test"
    )
    assert only.claim == ("chat.example", "/chat", "ws", "yes")
    assert only.name == "chat"
    assert only.grip == GripRouteSettings(
        sig_key=Secret("base64:aGVsbG8="),
        sig_iss="me",
        prefix="c-",
        debug=True,
        path_remove=5,
        host="inner.example:81",
        request_headers=("X-One: 1", "Cookie:"),
    )
    assert only.targets == (
        TargetSettings(
            "https://[::1]:8443",
            one_event=True,
            host="b.example",
            insecure=True,
            trust_connect_host=True,
            subscribe=("a", "b"),
        ),
        TargetSettings("http://10.0.0.2:80"),
        TargetSettings("test"),
    )


@pytest.mark.parametrize(
    ("options", "asked", "expected"),
    [
        ("path_beg=/a", "/ab/c", "/ab/c"),
        ("path_beg=/a,path_rem=2", "/a/c", "/c"),
        ("path_beg=/a,replace_beg=/b", "/ac", "/bc"),
        ("path_beg=/a,replace_beg=", "/a/c", "/c"),
        ("path_beg=/a,path_rem=9,replace_beg=/b", "/a/c", "/b/c"),
        ("path_beg=/,replace_beg=/b", "/c", "/bc"),
        ("replace_beg=/b", "/c", "/b/c"),
        ("path_rem=2", "/a/c", "/c"),
    ],
)
def test_paths_become_what_pushpin_makes_of_them(options: str, asked: str, expected: str) -> None:
    only = route(f"*,{options} localhost:1")
    grip = only.grip
    assert rewritten(asked, claim_of(only), remove=grip.path_remove, replace=grip.path_replace) == expected


def test_the_most_specific_route_wins() -> None:
    settings = read(
        "* a:1\n*,path_beg=/chat b:1\n*,path_beg=/chat,ssl=yes c:1\n*,proto=http d:1\nx.example,path_beg=/ e:1\n"
    )
    routes = Routes(settings.routes, Metrics())

    def found(host: str, path: str, **request: bool) -> str:
        handle = routes.find(host, path, **request)
        assert handle is not None
        return handle.settings.targets[0].url[7]

    assert found("y", "/other") == "a"
    assert found("y", "/chatty") == "b"
    assert found("y", "/chat", tls=True) == "c"
    assert found("y", "/chat", tls=True, websocket=False) == "d"
    assert found("x.example", "/chat") == "e"


def test_keys_from_files_are_found_beside_the_routes_file() -> None:
    Path("keys").mkdir()
    Path("keys/hex").write_text("68656c6c6f\n")
    Path("keys/routes").write_text("* a:1\na.example,sig_key=file:hex a:1\n")
    settings = load({"edge.grip_routes": "keys/routes", "grip.sig_key": "common", "edge.listen": [":1"]}, {}, None)
    assert [each.grip.sig_key.value for each in settings.routes] == ["common", "base64:aGVsbG8="]


def test_sources_name_the_line() -> None:
    settings = read(
        "\n* a:1\nb.example,id=b b:1\n", toml='[[route]]\npath = "/own"\nbackend = "http://c"\n[edge]\nworkers = 2\n'
    )
    assert [each.name for each in settings.routes] == ["*/own", "*/", "b"]
    assert settings.sources["edge.grip_routes"] == "--grip-routes"
    assert settings.sources["route[1].target[0].url"] == "routes:2"
    assert settings.sources["route[2].id"] == "routes:3"
    assert read("* a:1\n", {"HOLDFAST_GRIP_ROUTES": "routes"}).sources["route[0].host"] == "routes:1"


def test_a_route_of_the_other_file_with_the_same_requests_is_named() -> None:
    assert complaints("* a:1\n", toml='[[route]]\nbackend = "http://c"\n') == [
        "routes:1: route[1] = '*/' is not accepted: one route for each host and path: "
        "route[0] has host '*' and path '/' already"
    ]


WRONG: list[tuple[str, list[str]]] = [
    ('*,id="a b:1', ["line cannot be read: a quote is opened and not closed"]),
    ("*", ["target is missing: after the condition comes at least one host:port"]),
    (",debug a:1", ["domain is missing: a host name, or * for any"]),
    ("a.example:80 a:1", ["domain = 'a.example:80' is not accepted: a host name without port, *.suffix, or *"]),
    ("*,proto=wss a:1", ["proto = 'wss' is not accepted: one of http, ws"]),
    ("*,ssl a:1", ["ssl = '' is not accepted: one of yes, no"]),
    ("*,path_beg= a:1", ["path_beg = '' is not accepted: a path prefix that begins with / and has no query"]),
    ("*,path_rem=two a:1", ["path_rem = 'two' is not accepted: a whole number of characters from 0 to 8_192"]),
    ("*,header=X a:1", ["header = 'X' is not accepted: `Name: value` to set a header, `Name:` to remove it"]),
    (
        "*,sig_key=base64:hush! a:1",
        ["sig_key = Secret(•••) is not accepted: base64 after base64:, with its padding (=)"],
    ),
    (
        "*,sig_key=file:none a:1",
        ["sig_key = Secret(•••) is not accepted: the file none must be readable (No such file or directory)"],
    ),
    (
        "*,sig_key=file:routes a:1",
        [
            "sig_key = Secret(•••) is not accepted: "
            "the file routes must hold a PEM private key, or a key in hexadecimal digits"
        ],
    ),
    ("* a", ["target = 'a' is none: host:port, [v6 address]:port, or test"]),
    ("* a:0", ["target = 'a:0' is none: host:port, [v6 address]:port, or test"]),
    ("* ::1:80", ["target = '::1:80' is none: host:port, [v6 address]:port, or test"]),
    ("* user@a:80", ["target = 'user@a:80' is none: host:port, [v6 address]:port, or test"]),
    ("* a:1,ssl,client_cert=none", ["client_cert = 'none' is not accepted: the path of a readable file"]),
    ("* a:1,ssl,client_key=routes", ["client_cert is missing: client_key is the key of a client_cert"]),
    (
        "* zhttp/tcp://a:1 zhttpreq/tcp://b:2",
        [
            f"{target} is not supported: ZeroMQ backends are not called: "
            "give the backend an HTTP port, and write host:port"
            for target in ("zhttp/tcp://a:1", "zhttpreq/tcp://b:2")
        ],
    ),
    (
        "*,proto=ws a:1",
        [
            "over_http is missing: no target has over_http, and the edge does not speak WebSocket to backends: "
            "add over_http to targets that understand WebSocket-over-HTTP"
        ],
    ),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[case[0] for case in WRONG])
def test_a_wrong_line_is_refused_in_these_words(line: str, words: list[str]) -> None:
    assert complaints(f"x.example a:1\n\n{line}\n") == [f"routes:3: {text}" for text in words]


def test_everything_that_is_not_supported_is_named_at_once() -> None:
    names = ["aco", "jsonp_mode", "jsonp_cb", "jsonp_body", "jsonp_defcb", "jsonp_defmethod"]
    names += ["sockjs", "sockjs_as_path", "session", "orig_headers", "no_grip"]
    found = complaints("".join(f"{number}.example,{name}=x a:1\n" for number, name in enumerate(names)))
    assert [text.split(":")[1] for text in found if " is not supported: " in text] == [
        str(number) for number in range(1, len(names) + 1)
    ]
    assert [text.split()[1] for text in found if " is not supported: " in text] == names


def test_the_same_condition_twice() -> None:
    assert complaints("a.example,path_beg=/x,debug a:1\n\nA.example,path_beg=/x b:1\n") == [
        "routes:3: condition is there twice: line 1 takes the same requests: remove one of them, or tell them apart"
    ]


WARNED: list[tuple[str, list[str]]] = [
    (
        "*,log_level=2 a:1,over_http",
        ["routes:1: log_level is not used: the level of the log is that of the process, edge.log_level"],
    ),
    (
        "* a:1,over_http,untrusted",
        [
            "routes:1: untrusted is not used: there is no list of denied addresses; "
            "where the backend may be, the network's rules say"
        ],
    ),
    ("* a:1,over_http,ipc_file_mode=770", ["routes:1: ipc_file_mode is not used: it is about ZeroMQ backends"]),
    ("*,debugg a:1,over_http", ["routes:1: debugg is not a known option and not used; did you mean debug?"]),
    ("*,id=a,id=b a:1,over_http", ["routes:1: id is there twice; the last one counts"]),
    (
        "*,header=Host:x a:1,over_http",
        ["routes:1: header=Host is not used, the Host header is written last; use as_host"],
    ),
    (
        "* a:1,over_http\nid=other b:1",
        ["routes:2: a condition without domain gets no requests; write * for any domain"],
    ),
    (
        "*,path_beg=/ a:1,over_http\n* b:1",
        ["routes:2: this route gets no requests: line 1 with path_beg=/ takes them all"],
    ),
    (
        "* a:1\n\nb.example a:1\nc.example,proto=http a:1",
        [
            "routes: lines 1, 3: WebSocket handshakes are refused: no target has over_http, and the edge does not "
            "speak WebSocket to backends: add over_http to targets that understand WebSocket-over-HTTP, or say "
            "proto=http if there are none"
        ],
    ),
]


@pytest.mark.parametrize(("text", "words"), WARNED, ids=[case[0] for case in WARNED])
def test_what_is_ignored_is_said(text: str, words: list[str]) -> None:
    assert list(read(text).warnings) == words


def test_of_path_beg_and_none_the_one_that_gets_requests_is_kept() -> None:
    for text in ("*,path_beg=/ a:1,over_http\n* b:1", "* b:1\n*,path_beg=/ a:1,over_http"):
        assert [each.backend for each in read(text).routes] == ["http://a:1"]


def test_a_file_that_is_not_there_or_not_text() -> None:
    with pytest.raises(ConfigErrors) as refused:
        load({"edge.grip_routes": "none"}, {}, None)
    assert "--grip-routes: edge.grip_routes = 'none' is not accepted: the path of a readable file" in str(refused.value)
    Path("routes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigErrors) as refused:
        load({"edge.grip_routes": "routes"}, {}, None)
    assert str(refused.value) == "routes: routes file cannot be read: it must be UTF-8 text"


def test_check_covers_the_routes_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("routes").write_text("# a comment\r\n* a:1,over_http\r\nb.example,sig_key=hush-hush b:1,over_http\r\n")
    assert cli.main(["check", "--grip-routes", "routes"]) == 0
    assert capsys.readouterr().out == "the settings are fine: 2 routes\n"
    assert cli.main(["check", "--show", "--grip-routes", "routes"]) == 0
    shown = capsys.readouterr().out
    assert "hush" not in shown
    assert 'host = "b.example"' in shown
    Path("routes").write_text("* a\n*,sockjs=/x b:1\n")
    assert cli.main(["check", "--grip-routes", "routes"]) == 2
    assert [line.split(" ")[1] for line in capsys.readouterr().err.splitlines()] == ["routes:1:", "routes:2:"]

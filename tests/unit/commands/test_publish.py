"""``holdfast publish`` as a user meets it, against a server that writes down what it is sent."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import zmq
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edge import cli
from edge.protocol.grip.items import Item, ResponseFormat, SocketFormat, StreamFormat
from edge.protocol.grip.publish import parse_publish
from edge.protocol.grip.signature import verify_publisher
from edge.protocol.grip.zmq import parse_payload
from tests.support.ports import LOOPBACK, free_port

KEY = "a key of thirty-two bytes or more"


class Server(HTTPServer):
    """Answers as told, and keeps requests: path, headers, body."""

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.answer = (200, "Published\n")
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.server_port}"

    def item(self) -> Item:
        """The one item of the one request."""
        ((path, _, body),) = self.requests
        assert path == "/publish/"
        (item,) = parse_publish(body)
        return item

    def authorization(self) -> str | None:
        ((_, headers, _),) = self.requests
        return headers.get("authorization")


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, body))
        status, text = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server that GRIP_URL names."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setenv("GRIP_URL", made.url)
        yield made
        made.shutdown()
        thread.join()


def publish(*arguments: str) -> int:
    return cli.main(["publish", *arguments])


def test_content_goes_out_in_three_formats_with_a_line_end_on_http(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish("room", "hällo") == 0
    assert capsys.readouterr().out == "Published\n"
    assert server.item() == Item(
        "room",
        socket=SocketFormat(content="hällo"),
        stream=StreamFormat(content="hällo\n".encode()),
        response=ResponseFormat(body="hällo\n".encode()),
    )
    assert server.authorization() is None


def test_every_flag_ends_up_in_the_item(server: Server) -> None:
    flags = ["--id", "2", "--prev-id", "1", "--sender", "ann", "-M", "a=b=c", "-M", "d= e", "--no-seq", "--no-eol"]
    assert publish("room", "x", *flags, "--code", "404", "-H", "X-A: b:c", "--header", "X-D:e") == 0
    item = server.item()
    assert (item.id, item.prev_id, item.no_seq) == ("2", "1", True)
    assert item.meta == {"sender": "ann", "a": "b=c", "d": "e"}
    assert item.stream == StreamFormat(content=b"x")
    assert item.response == ResponseFormat(code=404, headers=(("X-A", "b:c"), ("X-D", "e")), body=b"x")


def test_files_and_standard_input_go_as_they_are(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"\xff\x00")
    assert publish("room", f"@{tmp_path}/data") == 0
    item = server.item()
    assert item.socket == SocketFormat(kind="binary", content=b"\xff\x00")
    assert item.stream == StreamFormat(content=b"\xff\x00")
    command = [sys.executable, "-m", "edge", "publish", "room", "-", "--spec", server.url]
    server.requests.clear()
    ran = subprocess.run(command, input=b"from a pipe", capture_output=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, b"Published\n")
    assert server.item().response == ResponseFormat(body=b"from a pipe")


def test_hint_close_and_patch(server: Server) -> None:
    assert publish("room", "--hint") == 0
    assert server.item() == Item("room", stream=StreamFormat("hint"), response=ResponseFormat("hint"))
    server.requests.clear()
    assert publish("room", "--close") == 0
    assert server.item() == Item("room", stream=StreamFormat("close"), socket=SocketFormat("close"))
    server.requests.clear()
    assert publish("room", '[{"op": "remove", "path": "/a"}]', "--patch") == 0
    assert server.item() == Item("room", response=ResponseFormat(patch=({"op": "remove", "path": "/a"},)))


def test_json_shows_the_answer_as_it_is(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = (200, '{"message":"Published","items":[{"channel":"room","receivers":3,"duplicate":false}]}')
    assert publish("room", "x", "--json") == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["receivers"] == 3
    assert server.requests[0][1]["accept"] == "application/json"


def _checked(server: Server, key: str) -> str:
    authorization = server.authorization()
    assert authorization is not None
    return verify_publisher(authorization, {"ann": key}, int(time.time()))


@pytest.mark.parametrize("key", [KEY, "base64:aGVsbG8+Pz8/aGVsbG8="])
def test_a_url_with_issuer_and_key_signs_a_token(server: Server, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("GRIP_URL", f"{server.url}/?iss=ann&key={key}")
    assert publish("room", "x") == 0
    assert _checked(server, key) == "ann"


def test_a_pem_key_signs_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.parse import quote

    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert publish("room", "x", "--spec", f"{server.url}?iss=ann&key={quote(pem)}") == 0
    assert _checked(server, public) == "ann"


def test_other_credentials(server: Server) -> None:
    assert publish("room", "x", "-u", f"ann:{KEY}") == 0
    assert _checked(server, KEY) == "ann"
    server.requests.clear()
    assert publish("room", "x", "--spec", server.url.replace("//", "//ann:secret@")) == 0
    assert server.authorization() == "Basic YW5uOnNlY3JldA=="
    server.requests.clear()
    assert publish("room", "x", "-B", "token") == 0
    assert server.authorization() == "Bearer token"
    server.requests.clear()
    assert publish("room", "x", "--spec", f"{server.url}?key=only-a-key") == 0
    assert server.authorization() == "Bearer only-a-key"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["room"], "CONTENT is missing"),
        (["room", "x", "--hint"], "there is no CONTENT"),
        (["room", "x", "-M", "novalue"], "-M K=V is needed"),
        (["room", "x", "-H", "novalue"], "-H 'K: V' is needed"),
        (["room", "x", "--code", "1000"], "0 to 999"),
        (["room", "{", "--patch"], "not JSON"),
        (["room", "{}", "--patch"], "list of operations"),
        (["room", "@/does/not/exist"], "/does/not/exist cannot be read: No such file"),
        (["room", "x", "--spec", "ftp://x"], "http://, https://, tcp:// or ipc://"),
        (["room", "x", "--spec", "http://x?iss=a&kye=b"], "nobody knows the parameters kye=b"),
        (["room", "x", "--spec", "http://x?iss=a&key=base64:!"], "not base64"),
        (["room", "x", "--spec", "tcp://127.0.0.1:1", "--json"], "ZeroMQ has no answers"),
    ],
)
def test_wrong_usage_is_told_and_ends_with_2(
    arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(*arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith("holdfast publish: ")
    assert why in told
    assert len(told.splitlines()) == 1


def test_a_refusal_is_told_and_ends_with_1(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answer = (400, "items[0].id: must be text\n")
    assert publish("room", "x") == 1
    assert f"not published: {server.url} answered 400: items[0].id: must be text" in capsys.readouterr().err
    server.answer = (401, '{"error": {"code": "unauthorized", "message": "a token is needed"}}')
    assert publish("room", "x") == 1
    assert "answered 401: a token is needed" in capsys.readouterr().err


def test_nobody_there_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert publish("room", "x", "--spec", f"http://{LOOPBACK}:{free_port()}") == 1
    assert "not published: " in capsys.readouterr().err


def test_zeromq(capsys: pytest.CaptureFixture[str]) -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        port = pull.bind_to_random_port(f"tcp://{LOOPBACK}")
        assert publish("room", "x", "--spec", f"tcp://{LOOPBACK}:{port}") == 0
        assert pull.poll(30_000)
        (item,) = parse_payload(pull.recv())
    assert item.socket == SocketFormat(content="x")
    assert capsys.readouterr().out == "Published\n"


def test_help_needs_nothing_but_the_base_install() -> None:
    code = "import sys; from edge.cli import main\ntry: main(['publish', '--help'])\nexcept SystemExit: pass\n"
    heavy = "print([name for name in ('redis', 'uvicorn', 'orjson', 'jwt', 'zmq', 'asyncio') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code + heavy], capture_output=True, text=True, timeout=60)
    assert ran.stdout.splitlines()[-1] == "[]"
    assert "GRIP_URL" in ran.stdout


def test_publishing_needs_nothing_but_the_base_install(server: Server) -> None:
    edge_only = ("redis", "uvicorn", "uvloop", "orjson", "jwt", "cryptography", "zmq", "websockets", "jsonpatch")
    code = f"import sys\nfor name in {edge_only!r}: sys.modules[name] = None\n"
    code += "from edge.cli import main\nsys.exit(main(['publish', 'room', 'x']))"
    spec = {"GRIP_URL": f"{server.url}?iss=ann&key={KEY}"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=spec)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert _checked(server, KEY) == "ann"

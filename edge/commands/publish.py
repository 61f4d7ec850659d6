"""``holdfast publish``: one item for a GRIP channel, over HTTP or ZeroMQ. Works with Pushpin too, whose
``pushpin-publish`` it takes after.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import sys
import time
from base64 import b64decode, b64encode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from edge.commands.parsers import new_command

if TYPE_CHECKING:
    from edge.commands.parsers import Commands

DEFAULT_SPEC = "http://127.0.0.1:5561"
SPEC_VARIABLE = "GRIP_URL"
TIMEOUT_S = 30.0
TOKEN_S = 3_600
OK, FAILED, WRONG_USAGE = 0, 1, 2

_EPILOG = f"""\
CONTENT is sent in all three formats: as the body of an answer to held requests, on streams, and as a WebSocket
message. @FILE sends what is in FILE, - what comes on standard input, both as they are; other content gets a line end
on HTTP. For content that begins with @ or is -, use a file.

Authentication: --user, --bearer, or a URL like http://edge:5561?iss=NAME&key=KEY (also base64:…), as backends have it
in {SPEC_VARIABLE}: then a token is signed with the key. Flags can be seen by other users of the machine, the
environment cannot.

Exit codes: 0 published, 1 not published, 2 wrong usage.
"""


class _Wrong(Exception):
    """What was asked for makes no sense; the text says why."""


class _Failed(Exception):
    """It was not published; the text says why."""


def add_commands(commands: Commands) -> None:
    """``publish``, with the flags of ``pushpin-publish``, and `--json`."""
    parser = new_command(
        commands,
        "publish",
        "publish to a channel of GRIP routes",
        "Publish to a channel of GRIP routes, on this edge and all others of its Redis.",
        _EPILOG,
    )
    parser.add_argument("channel", metavar="CHANNEL", help="name of the channel, with the route's prefix if it has one")
    parser.add_argument("content", metavar="CONTENT", nargs="?", help="what to send, @FILE, or - for standard input")
    parser.add_argument("--id", metavar="ID", help="id of the item")
    parser.add_argument("--prev-id", metavar="ID", help="id of the item it follows")
    parser.add_argument("--sender", metavar="USER", help="meta `sender`, for the filter skip-self")
    parser.add_argument("--code", metavar="CODE", type=int, default=200, help="status of HTTP answers (default: 200)")
    parser.add_argument("-H", "--header", metavar="'K: V'", action="append", default=[], help="header of HTTP answers")
    parser.add_argument("-M", "--meta", metavar="K=V", action="append", default=[], help="meta of the item")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--hint", action="store_true", help="no content: have backends asked for what is new")
    what.add_argument("--close", action="store_true", help="no content: end streams and WebSockets")
    what.add_argument("--patch", action="store_true", help="CONTENT is a JSON Patch of the body that is held")
    parser.add_argument("--no-seq", action="store_true", help="do not wait for the item it follows")
    parser.add_argument("--no-eol", action="store_true", help="no line end behind CONTENT on HTTP")
    parser.add_argument(
        "--spec",
        metavar="URL",
        help=f"where to, http(s):// or ZeroMQ's tcp:// (default: ${SPEC_VARIABLE}, {DEFAULT_SPEC})",
    )
    who = parser.add_mutually_exclusive_group()
    who.add_argument("-u", "--user", metavar="NAME:KEY", help="authenticate with a publisher's name and key")
    who.add_argument("-B", "--bearer", metavar="TOKEN", help="authenticate with this token")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON, with the number of receivers")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Publish; returns the exit code."""
    try:
        _send(arguments.spec or os.environ.get(SPEC_VARIABLE) or DEFAULT_SPEC, _item(arguments), arguments)
    except _Wrong as error:
        return _complain(str(error), WRONG_USAGE)
    except _Failed as error:
        return _complain(f"not published: {error}", FAILED)
    return OK


def _complain(message: str, code: int) -> int:
    print(f"holdfast publish: {message}", file=sys.stderr)
    return code


# -- the item


def _item(arguments: argparse.Namespace) -> Mapping[str, Any]:
    meta = dict(_pair(text, "=", "-M K=V") for text in arguments.meta)
    if arguments.sender:
        meta = {"sender": arguments.sender, **meta}
    item = {
        "channel": arguments.channel,
        "id": arguments.id,
        "prev-id": arguments.prev_id,
        "no-seq": arguments.no_seq or None,
        "meta": meta or None,
        "formats": _formats(arguments),
    }
    return {name: value for name, value in item.items() if value is not None}


def _formats(arguments: argparse.Namespace) -> Mapping[str, Any]:
    if arguments.hint or arguments.close:
        if arguments.content is not None:
            raise _Wrong("with --hint and --close there is no CONTENT")
        action = {"action": "hint" if arguments.hint else "close"}
        return {"http-stream": action, **({"http-response": action} if arguments.hint else {"ws-message": action})}
    if arguments.content is None:
        raise _Wrong("CONTENT is missing (or --hint, or --close)")
    if not 0 <= arguments.code <= 999:
        raise _Wrong("--code: a number from 0 to 999 is needed")
    headers = [list(_pair(text, ":", "-H 'K: V'")) for text in arguments.header]
    response: dict[str, Any] = {"code": arguments.code} | ({"headers": headers} if headers else {})
    content, as_it_is = _content(arguments.content)
    if arguments.patch:
        return {"http-response": {**response, "body-patch": _patch(content)}}
    over_http = content if as_it_is or arguments.no_eol else content + b"\n"
    return {
        "http-response": {**response, **_field("body", over_http)},
        "http-stream": _field("content", over_http),
        "ws-message": _field("content", content),
    }


def _pair(text: str, separator: str, shape: str) -> tuple[str, str]:
    name, found, value = text.partition(separator)
    if not found or not name:
        raise _Wrong(f"{shape} is needed, not {text!r}")
    return name, value.strip()


def _content(given: str) -> tuple[bytes, bool]:
    """The content, and whether it is to stay as it is."""
    if given == "-":
        return sys.stdin.buffer.read(), True
    if not given.startswith("@"):
        return os.fsencode(given), False
    try:
        return Path(given[1:]).read_bytes(), True
    except OSError as error:
        raise _Wrong(f"{given[1:]} cannot be read: {error.strerror}") from None


def _patch(content: bytes) -> list[Any]:
    try:
        patch = json.loads(content)
    except ValueError as error:
        raise _Wrong(f"--patch: CONTENT is not JSON: {error}") from None
    if not isinstance(patch, list):
        raise _Wrong("--patch: CONTENT must be a list of operations (RFC 6902)")
    return patch


def _field(name: str, content: bytes) -> Mapping[str, str]:
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}-bin": b64encode(content).decode()}


# -- the way


def _send(spec: str, item: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    if spec.startswith(("http://", "https://")):
        _over_http(spec, item, arguments)
    elif spec.startswith(("tcp://", "ipc://")):
        _over_zmq(spec, item, arguments)
    else:
        raise _Wrong(f"--spec {spec}: http://, https://, tcp:// or ipc:// is needed")


def _over_http(spec: str, item: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    import httpx

    url, authorization = _credentials(spec, arguments)
    headers = {"Accept": "application/json" if arguments.json else "text/plain"}
    if authorization:
        headers["Authorization"] = authorization
    try:
        answer = httpx.post(f"{url}/publish/", json={"items": [item]}, headers=headers, timeout=TIMEOUT_S)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _Failed(f"{url}: {error or type(error).__name__}") from None
    if answer.status_code != 200:
        raise _Failed(f"{url} answered {answer.status_code}: {_reason(answer.text)}")
    print(answer.text.strip())


def _reason(text: str) -> str:
    """What an answer says is wrong, also when it says it in JSON."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, TypeError, KeyError):
        return text.strip()[:500] or "(nothing)"


def _credentials(spec: str, arguments: argparse.Namespace) -> tuple[str, str]:
    """The URL without its credentials, and what to send as Authorization."""
    try:
        parts = urlsplit(spec)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
    except ValueError as error:
        raise _Wrong(f"--spec: {error}") from None
    issuer, key = query.pop("iss", ""), query.pop("key", "")
    query.pop("verify-iss", None)
    query.pop("verify-key", None)
    if query:
        raise _Wrong(f"--spec: nobody knows the parameters {urlencode(query)}; there are iss and key")
    user = arguments.user
    host = parts.netloc
    if "@" in host:
        user, _, host = host.rpartition("@")
    url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    if arguments.bearer:
        return url, f"Bearer {arguments.bearer}"
    if user:
        return url, "Basic " + b64encode(user.encode()).decode()
    if key and issuer:
        return url, f"Bearer {_token(issuer, key)}"
    return url, f"Bearer {key}" if key else ""


def _token(issuer: str, key: str) -> str:
    """A JSON Web Token (RFC 7519) that says who publishes."""
    claims = {"iss": issuer, "exp": int(time.time()) + TOKEN_S}
    if "-----BEGIN" in key:
        import jwt  # only the edge's install has it

        algorithm = "RS256" if "RSA" in key.partition("\n")[0] else "ES256"
        try:
            return jwt.encode(claims, key, algorithm)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise _Wrong(f"--spec: its key cannot sign: {error}") from None
    try:
        secret = _unpacked(key.removeprefix("base64:")) if key.startswith("base64:") else key.encode()
    except (Base64Error, ValueError):
        raise _Wrong("--spec: what follows base64: in its key is not base64") from None
    signed = ".".join(_packed(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{signed}.{_packed(hmac.digest(secret, signed.encode(), 'sha256'))}"


def _unpacked(text: str) -> bytes:
    # A plus sign in a query means a space, and people write it all the same.
    return b64decode(text.replace(" ", "+"), validate=True)


def _packed(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _over_zmq(spec: str, item: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """To a PULL socket. It does not answer: what is wrong with the item is in the edge's log."""
    if arguments.json or arguments.user or arguments.bearer:
        raise _Wrong("ZeroMQ has no answers and no authentication: --json, --user and --bearer need an http:// URL")
    try:
        import zmq
    except ModuleNotFoundError:
        raise _Failed("ZeroMQ needs pyzmq: pip install 'holdfast[zmq]'") from None
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDTIMEO, int(TIMEOUT_S * 1_000))
        socket.setsockopt(zmq.LINGER, int(TIMEOUT_S * 1_000))
        try:
            socket.connect(spec)
            socket.send(b"J" + json.dumps(item).encode())
        except zmq.ZMQError as error:
            why = f"nobody took it within {TIMEOUT_S:g} s" if isinstance(error, zmq.Again) else error
            raise _Failed(f"{spec}: {why}") from None
    print("Published")

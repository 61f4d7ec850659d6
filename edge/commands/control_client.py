"""The control API as commands use it: where it is, who asks, and errors as sentences that say what to do.

`Failed` and `WrongUsage` are all that leaves this module. `guarded` prints them; nothing above it knows httpx.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from edge.commands.refusals import Failed, WrongUsage
from edge.commands.terminal import parse_duration

if TYPE_CHECKING:
    import httpx

CONTROL_VARIABLE, TOKEN_VARIABLE, PATIENCE_VARIABLE = "HOLDFAST_CONTROL", "HOLDFAST_TOKEN", "HOLDFAST_PATIENCE"
DEFAULT_CONTROL = "http://127.0.0.1:5561"
CONNECT_S, TIMEOUT_S, AGAIN_S = 5.0, 30.0, 0.5
SHOWN_CHARS = 500
"""Of an answer that is not the control API's, in a message."""
OK, FAILED, WRONG_USAGE = 0, 1, 2

Answer = Mapping[str, Any]
Command = Callable[[argparse.Namespace], int]


def guarded(command: Command) -> Command:
    """`command` with its errors printed, and as exit codes."""

    @functools.wraps(command)
    def run(arguments: argparse.Namespace) -> int:
        try:
            return command(arguments)
        except WrongUsage as error:
            return _complain(str(error), WRONG_USAGE)
        except Failed as error:
            return _complain(str(error), FAILED)
        except BrokenPipeError:
            # Who read us (head, less) has seen enough. Python would complain again when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK

    return run


def _complain(message: str, code: int) -> int:
    print(f"holdfast: {message}", file=sys.stderr)
    return code


def add_flags(parser: argparse.ArgumentParser, *, app: bool = True) -> None:
    """The flags of every command that asks the control API."""
    group = parser.add_argument_group("the edge that is asked")
    group.add_argument(
        "--control",
        metavar="URL",
        help=f"control API of any edge (default: ${CONTROL_VARIABLE}, {DEFAULT_CONTROL})",
    )
    group.add_argument(
        "--token",
        metavar="TOKEN",
        help=f"bearer token of the control API (default: ${TOKEN_VARIABLE}, which other users cannot see)",
    )
    group.add_argument(
        "--patience",
        metavar="TIME",
        help=f"go on trying for so long while no edge can be reached (default: ${PATIENCE_VARIABLE}, 0s)",
    )
    if app:
        group.add_argument("--app", metavar="APP", help="the app (default: the only one there is)")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def path(*parts: str) -> str:
    """A path of the API: ``path("apps", name)``; a slash in a name is sent as %2F."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


class ControlClient:
    """One edge's control API. A context manager; not thread-safe.

    `patience_s`: how long a call that reaches nobody is tried again. In a pod's first seconds the cluster's network may
    not know yet that its policies let it through.
    """

    def __init__(self, url: str, token: str = "", app: str = "", patience_s: float = 0) -> None:
        import httpx  # a quarter of a second that --help need not wait for

        self._httpx = httpx
        self.url = _checked(url)
        self._app = app
        self._patience_s = patience_s
        headers = {"Accept": "application/json", "User-Agent": "holdfast-cli"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            # trust_env=False: a proxy of the environment is never meant for a control port.
            self._http = httpx.Client(
                headers=headers, timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_S), trust_env=False
            )
        except (ValueError, UnicodeError):
            raise WrongUsage("--token: a token has printable ASCII characters only") from None
        self._has_token = bool(token)

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> ControlClient:
        """As the flags and the environment say."""
        url = arguments.control or os.environ.get(CONTROL_VARIABLE) or DEFAULT_CONTROL
        token = arguments.token or os.environ.get(TOKEN_VARIABLE) or ""
        patience = arguments.patience or os.environ.get(PATIENCE_VARIABLE) or "0s"
        patience_ms = parse_duration(patience, f"--patience (or ${PATIENCE_VARIABLE})")
        return cls(url, token, getattr(arguments, "app", None) or "", patience_ms / 1000)

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def app(self) -> str:
        """The app that was named, or the only one. `WrongUsage` when there are several."""
        if not self._app:
            apps = [str(app["app"]) for app in self.get("/v1/apps")["apps"]]
            if len(apps) > 1:
                raise WrongUsage(f"which app? say --app with one of {', '.join(apps)}")
            if not apps:
                raise Failed(f"the edge at {self.url} has no routes, so there is no app; give it a [[route]]")
            self._app = apps[0]
        return self._app

    def use_app(self, app: str) -> None:
        """It is about this app, as it turned out."""
        self._app = app

    def get(self, where: str, query: Mapping[str, str | int | None] | None = None) -> Answer:
        return self.call("GET", where, query=query)

    def post(self, where: str, body: Mapping[str, Any] | None = None) -> Answer:
        return self.call("POST", where, body or {})

    def put(self, where: str, body: Mapping[str, Any]) -> Answer:
        return self.call("PUT", where, body)

    def delete(self, where: str) -> Answer:
        return self.call("DELETE", where)

    def call(
        self,
        method: str,
        where: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str | int | None] | None = None,
    ) -> Answer:
        """One call. `Failed` for everything but a good answer."""
        answer = self._send(method, where, body, query)
        try:
            content = answer.json()
        except ValueError:
            content = None
        if answer.is_success and isinstance(content, dict):
            return content
        raise self._failure(answer, content)

    def text(self, where: str) -> str:
        """The body of a GET that is no JSON (/metrics)."""
        answer = self._send("GET", where, None, None)
        if not answer.is_success:
            raise self._failure(answer, None)
        return answer.text

    def _send(
        self,
        method: str,
        where: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str | int | None] | None,
    ) -> httpx.Response:
        params = {name: value for name, value in (query or {}).items() if value is not None}
        give_up = time.monotonic() + self._patience_s
        try:
            while True:
                try:
                    return self._http.request(method, self.url + where, json=body, params=params or None)
                except (self._httpx.ConnectError, self._httpx.ConnectTimeout):  # nothing was asked yet
                    if time.monotonic() + AGAIN_S >= give_up:
                        raise
                    time.sleep(AGAIN_S)
        except self._httpx.ConnectError as error:
            raise Failed(
                f"no edge answers at {self.url} ({error}); is it running? another one: --control URL or "
                f"${CONTROL_VARIABLE}"
            ) from None
        except self._httpx.ConnectTimeout:
            raise Failed(
                f"no edge answers at {self.url} within {CONNECT_S:g} s; is it running, and may you reach its "
                f"control port from here? another one: --control URL or ${CONTROL_VARIABLE}"
            ) from None
        except self._httpx.TimeoutException:
            hint = "" if method == "GET" else "; it may have happened, so look before you repeat it"
            raise Failed(f"the edge at {self.url} did not answer within {TIMEOUT_S:g} s{hint}") from None
        except (self._httpx.RemoteProtocolError, self._httpx.ReadError) as error:
            raise Failed(
                f"what listens at {self.url} does not speak HTTP, or went away ({error or type(error).__name__}); "
                f"--control takes the address of edge.control, not of edge.listen"
            ) from None
        except (self._httpx.HTTPError, self._httpx.InvalidURL, ValueError) as error:
            raise Failed(f"{self.url}: {error or type(error).__name__}") from None

    def _failure(self, answer: httpx.Response, content: object) -> Failed:
        status = answer.status_code
        error = content.get("error") if isinstance(content, dict) else None
        if not isinstance(error, dict):
            return Failed(self._foreign(answer), status)
        code, said = str(error.get("code", "")), str(error.get("message", ""))
        field = error.get("field")
        if field and not said.startswith(str(field)):
            said = f"{field}: {said}"
        return Failed(said + self._advice(status, code), status, code)

    def _advice(self, status: int, code: str) -> str:
        if status == 401:
            given = "the token that was given is not one of them" if self._has_token else "none was given"
            return f": one of edge.control_tokens, and {given}; say --token TOKEN or set {TOKEN_VARIABLE}"
        if status == 403 and code == "forbidden":
            return f"; asked was {self.url}"
        if status == 504:
            return " (look before you repeat it)"
        if status == 500:
            return f" (the edge is the one at {self.url})"
        return ""

    def _foreign(self, answer: httpx.Response) -> str:
        """An answer that no control API gives."""
        kind = answer.headers.get("content-type", "no content type").partition(";")[0]
        text = " ".join(answer.text.split())[:SHOWN_CHARS]
        said = f": {text}" if text and "html" not in kind else ""
        return (
            f"what answers at {self.url} is not the control API of an edge of this version: status "
            f"{answer.status_code}, {kind}{said}; --control takes the address of edge.control, not of edge.listen"
        )


def _checked(url: str) -> str:
    """`url` without its path's last slash. `WrongUsage` when it is no http(s) URL.

    ``HOST:PORT`` and ``:PORT`` will do: HOLDFAST_CONTROL may be there for `serve` too, where edge.control has that
    form.
    """
    if "://" not in url:
        url = f"http://{'127.0.0.1' if url.startswith(':') else ''}{url}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise WrongUsage(f"--control: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WrongUsage(f"--control: http://HOST:PORT is needed, not {url!r}")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))


def print_json(content: object) -> None:
    """For programs: one document."""
    print(json.dumps(content, ensure_ascii=False, indent=2))

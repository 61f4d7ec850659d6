"""The command line against a running edge, as an operator uses it: releases, sessions, lives, sick backends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.client import RecordingClient, connect
from tests.support.journal import Journal
from tests.support.ports import free_port
from tests.support.processes import Backend, Edge
from tests.support.raw_backend import Answer, Asked, raw_backend
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.scenario

APP = "tests.scenarios.commanded_app:app"
OLD, NEW = "c0ffee1234", "1d0e5c9ab2"
HOLDFAST = str(Path(sys.executable).with_name("holdfast"))
JSON_TYPE = "application/vnd.holdfast.v1+json"


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def holdfast(*arguments: str, environment: Mapping[str, str] | None = None) -> Ran:
    """Run the command as a shell would, through pipes."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}
    process = await asyncio.create_subprocess_exec(
        HOLDFAST, *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**kept, **(environment or {})},
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert "Traceback" not in err.decode(), err.decode()
    return Ran(process.returncode or 0, out.decode(), err.decode())


@dataclass(frozen=True)
class Place:
    """An edge with release OLD configured, and NEW at hand."""

    edge: Edge
    new: Backend
    journal: Journal

    async def run(self, *arguments: str, code: int = 0, **environment: str) -> Ran:
        """A command that asks this edge."""
        ran = await holdfast(*arguments, environment={"HOLDFAST_CONTROL": self.edge.control_url, **environment})
        assert ran.code == code, f"{arguments}: {ran}"
        return ran


@asynccontextmanager
async def place(tmp_path: Path, **settings: Any) -> AsyncIterator[Place]:
    journal = Journal(tmp_path / "journal")
    async with (
        Backend(tmp_path, APP, name="old", journal=journal, environment={"BACKEND_NAME": "old"}) as old,
        Backend(tmp_path, APP, name="new", journal=journal, environment={"BACKEND_NAME": "new"}) as new,
        Edge(tmp_path, routes=[{"backend": old.url, "release": OLD, "release_urls": [new.url]}], edge=settings) as edge,
    ):
        yield Place(edge, new, journal)
    journal.close()


async def ask(client: RecordingClient, text: str) -> object:
    await client.send(text)
    return (await client.expect(len(client.messages) + 1))[-1]


def shares(table: Mapping[str, Any]) -> dict[str, float]:
    return {release["sha"]: release["share"] for release in table["releases"]}


async def test_a_release_is_added_promoted_rolled_back_retired_and_removed_without_losing_a_client(
    tmp_path: Path,
) -> None:
    async with place(tmp_path) as here, connect(here.edge.url()) as client:
        (session,) = await client.expect(1)
        added = await here.run("release", "add", NEW, "--url", here.new.url, "--wait", "30s", "--json")
        assert (added.json["sha"], added.json["state"]) == (NEW, "active")
        assert await ask(client, "who?") == "old who?"

        listed = await here.run("release", "list")
        assert "▶" in listed.out
        assert OLD in listed.out
        assert "\x1b" not in listed.out, "a pipe gets no escape codes"
        painted = await here.run("release", "list", FORCE_COLOR="1", COLORTERM="truecolor")
        assert "\x1b[38;2;" in painted.out
        assert "\x1b" not in (await here.run("release", "list", NO_COLOR="1", COLORTERM="truecolor")).out

        promoted = await here.run("release", "promote", NEW[:6])  # enough of its beginning
        assert "current" in promoted.out
        assert await ask(client, "who?") == "new who?"
        assert shares((await here.run("release", "list", "--json")).json) == {OLD: 0, NEW: 100}

        await here.run("release", "rollback")
        assert await ask(client, "who?") == "old who?"
        await here.run("release", "weights", f"{OLD}=3", f"{NEW}=1")
        assert shares((await here.run("release", "list", "--json")).json) == {OLD: 75, NEW: 25}
        await here.run("release", "cohort", NEW, "user:ann", "header:X-Beta=1")
        assert (await here.run("release", "show", NEW, "--json")).json["cohorts"] == ["user:ann", "header:x-beta=1"]
        await here.run("release", "cohort", NEW)

        canary = ["release", "canary", NEW, "--steps", "50,100", "--every", "1h", "--max-p99", "500ms", "--json"]
        started = (await here.run(*canary)).json["canary"]
        assert (started["share"], started["max_error_rate"], started["max_p99_ms"]) == (50, 0.01, 500)
        assert "Canary" in (await here.run("release", "list")).out
        await here.run("release", "canary", "--stop")
        assert shares((await here.run("release", "list", "--json")).json) == {OLD: 75, NEW: 25}

        assert "pinned" in (await here.run("release", "pin", str(session), NEW)).out
        assert await ask(client, "who?") == "new who?"
        await here.run("release", "pin", str(session), "--none")
        await here.run("release", "promote", OLD)
        idle = await here.run("release", "retire", NEW, "--when-idle", "--at-most", "24h", "--json")
        retirement = idle.json["retirement"]
        assert (retirement["how"], retirement["for_ms"], retirement["at_most_ms"]) == ("when-idle", 60_000, 86_400_000)
        await here.run("release", "retire", NEW, "--over", "0s", "--wait", "30s")
        assert await ask(client, "who?") == "old who?"
        await here.run("release", "remove", NEW)
        assert list(shares((await here.run("release", "list", "--json")).json)) == [OLD]


async def test_what_cannot_be_done_says_why_and_what_to_do(tmp_path: Path) -> None:
    async with place(tmp_path, control_tokens=["right"]) as here:
        none = await here.run("release", "list", code=1)
        assert "one of edge.control_tokens, and none was given; say --token TOKEN or set HOLDFAST_TOKEN" in none.err
        wrong = await here.run("release", "list", "--token", "wrong", code=1)
        assert "the token that was given is not one of them" in wrong.err
        assert (await here.run("release", "list", HOLDFAST_TOKEN="right")).code == 0

        async def refused(*arguments: str, code: int = 1) -> str:
            ran = await here.run(*arguments, code=code, HOLDFAST_TOKEN="right")
            assert ran.out == ""
            assert ran.err.startswith("holdfast: ")
            return ran.err

        assert "there is no release 'nosuch'" in await refused("release", "show", "nosuch")
        assert "release_urls" in await refused("release", "add", NEW, "--url", "http://127.0.0.1:9/")
        assert OLD in await refused("release", "remove", OLD)
        assert "such as 500ms, 90s, 30m" in await refused("release", "retire", OLD, "--over", "30", code=2)
        assert "such as 500ms, 90s, 30m" in await refused("release", "list", "--patience", "30", code=2)
        assert "no route has the app 'nope'" in await refused("release", "list", "--app", "nope")
        assert "either SHA or --stop" in await refused("release", "canary", code=2)
        assert "nothing is known of session" in await refused("why", "nobody")

        port = free_port()
        nobody = await holdfast("release", "list", "--control", f"127.0.0.1:{port}")
        assert nobody.code == 1
        assert f"no edge answers at http://127.0.0.1:{port}" in nobody.err
        public = await holdfast("sessions", "--control", f"http://127.0.0.1:{here.edge.port}")
        assert public.code == 1
        assert "not the control API" in public.err
        assert "--control takes the address of edge.control" in public.err


async def test_a_patient_command_waits_until_an_edge_can_be_reached(tmp_path: Path) -> None:
    edge = Edge(tmp_path, backend="http://127.0.0.1:9")
    where = ["--control", edge.control_url]
    given_up = await holdfast("release", "list", *where, "--patience", "1s")
    assert (given_up.code, given_up.out) == (1, "")
    assert "no edge answers" in given_up.err
    asked = asyncio.create_task(holdfast("release", "list", *where, environment={"HOLDFAST_PATIENCE": "50s"}))
    async with edge:
        answered = await asked
    assert answered.code == 0, answered.err
    assert "default" in answered.out


async def test_sessions_of_all_workers_are_listed_and_filtered(tmp_path: Path) -> None:
    async with (
        place(tmp_path, workers=2) as here,
        connect(here.edge.url("/ann")) as ann,
        connect(here.edge.url("/bob")) as bob,
    ):
        first, second = [(await client.expect(1))[0] for client in (ann, bob)]
        everybody = (await here.run("sessions", "--json")).json
        assert everybody["complete"] is True
        assert {row["session"] for row in everybody["sessions"]} == {first, second}
        mine = (await here.run("sessions", "--user", "ann", "--json")).json
        assert [row["session"] for row in mine["sessions"]] == [first]
        assert (await here.run("sessions", "--release", NEW, "--json")).json["sessions"] == []
        listed = await here.run("sessions", "--limit", "1")
        assert len(listed.out.splitlines()) == 2
        assert "there may be more" in listed.err


async def test_an_edge_that_stays_silent_is_said_to_be_missing(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        async with (
            Backend(tmp_path, APP) as backend,
            Edge(tmp_path, backend=backend.url, redis=redis.url, edge={"lease_s": 60}, name="one") as one,
            Edge(tmp_path, backend=backend.url, redis=redis.url, edge={"lease_s": 60}, name="two") as two,
            connect(one.url()) as near,
            connect(two.url()) as far,
        ):
            asked = {"HOLDFAST_CONTROL": one.control_url}
            mine, other = [str((await client.expect(1))[0]) for client in (near, far)]
            whole = (await holdfast("sessions", "--json", environment=asked)).json
            assert (whole["complete"], {row["session"] for row in whole["sessions"]}) == (True, {mine, other})
            life = (await holdfast("why", other, "--json", environment=asked)).json
            assert (life["complete"], [fact["what"] for fact in life["life"]]) == (True, ["handshake"])

            (worker,) = two.worker_pids()
            os.kill(worker, signal.SIGSTOP)
            try:
                listed = await holdfast("sessions", environment=asked)
                assert mine in listed.out
                assert other not in listed.out
                assert "an edge did not answer in time" in listed.err
                lost = await holdfast("why", other, environment=asked)
                assert "Nothing is remembered" in lost.out
                assert "an edge did not answer in time" in lost.err
            finally:
                os.kill(worker, signal.SIGCONT)


async def test_why_tells_the_life_of_a_session_also_when_it_is_over(tmp_path: Path) -> None:
    async with place(tmp_path, workers=2) as here:
        async with connect(here.edge.url()) as client:
            session = str((await client.expect(1))[0])
            await here.run("release", "add", NEW, "--url", here.new.url, "--wait", "30s")
            await here.run("release", "promote", NEW)
            assert await ask(client, "who?") == "new who?"
            living = await here.run("why", session)
            assert f"accepted by release {OLD}" in living.out
            assert f"from {OLD} to {NEW}" in living.out
            assert "Now: open for" in living.out
        await wait_until(
            lambda: {"what": "close", "session": session} in here.journal.entries(), "the backend knows of the end"
        )
        over = (await here.run("why", session, "--json")).json
        assert [fact["what"] for fact in over["life"]] == ["handshake", "release", "close"]
        assert over["life"][-1]["detail"].startswith("client: code 1000")
        assert over["now"] is None
        assert "The session is over." in (await here.run("why", session)).out


async def test_why_tells_of_a_handshake_that_was_refused(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        with pytest.raises(InvalidStatus):
            async with connect(here.edge.url("/no")):
                pass
        session = here.journal.entries()[0]["session"]
        told = await here.run("why", session)
        assert "rejected with 403" in told.out
        assert "not in these shoes" in told.out
        assert "The session is over." in told.out


async def test_why_tells_of_tries_that_failed(tmp_path: Path) -> None:
    answers = iter([_results(), Answer("500 Oops"), _results({"type": "send", "text": "at last"})])

    async def respond(asked: Asked) -> Answer:
        return next(answers, _results())

    async with (
        raw_backend(respond) as backend,
        Edge(tmp_path, routes=[{"backend": backend.url, "release": OLD}]) as edge,
        connect(edge.url()) as client,
    ):
        control = {"HOLDFAST_CONTROL": edge.control_url}
        await client.send("hello")
        await client.expect(1)
        listed = await holdfast("sessions", "--json", environment=control)
        (session,) = [row["session"] for row in listed.json["sessions"]]
        facts = (await holdfast("why", session, "--json", environment=control)).json["life"]
        assert [(fact["what"], fact["detail"]) for fact in facts][1:] == [
            ("retry", f"try 1 at release {OLD} failed: status 500")
        ]


def interruptible() -> None:
    """A shell has what it runs in the background ignore Ctrl-C, and so all that these processes start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def test_top_shows_rates_once_as_json_and_until_it_is_interrupted(tmp_path: Path) -> None:
    async with place(tmp_path) as here, connect(here.edge.url()) as client:
        await client.expect(1)
        once = await here.run("top", "--once", "--interval", "200ms")
        assert "1 connection " in once.out
        assert OLD in once.out
        assert "\x1b" not in once.out
        line = (await here.run("top", "--once", "--interval", "200ms", "--json")).json
        assert (line["connections"], line["store_up"]) == (1, True)
        assert line["apps"][0]["releases"][0]["sha"] == OLD

        process = await asyncio.create_subprocess_exec(
            HOLDFAST, "top", "--json", "--interval", "200ms", "--control", here.edge.control_url,
            stdout=asyncio.subprocess.PIPE, preexec_fn=interruptible,
        )  # fmt: skip
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert json.loads(await process.stdout.readline())["connections"] == 1
            assert json.loads(await process.stdout.readline())["workers"] == 1
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0


async def test_top_gives_the_terminal_back_when_it_is_interrupted(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            HOLDFAST, "top", "--interval", "200ms", "--control", here.edge.control_url,
            stdout=theirs, env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
            preexec_fn=interruptible,
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        async with asyncio.timeout(30):
            while shown.count(OLD.encode()) < 2:
                shown += await asyncio.to_thread(os.read, ours, 65_536)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # how Linux says that nobody writes to a terminal any more
                while more := await asyncio.to_thread(os.read, ours, 65_536):
                    shown += more
            assert await process.wait() == 0
        os.close(ours)
        assert shown.startswith(b"\x1b[?1049h")
        assert shown.endswith(b"\x1b[?25h\x1b[?1049l")
        assert b"\x1b[38;2;" in shown


# -- doctor


async def test_the_doctor_finds_a_good_backend_good_and_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    async with Backend(tmp_path, APP, journal=journal, environment={"BACKEND_SECRETS": "s3cret"}) as backend:
        ran = await holdfast("doctor", backend.url, "--secret", "env:S", environment={"S": "s3cret"})
        assert ran.code == 0, ran
        assert "This backend can stand behind an edge." in ran.out
        assert ran.out.count("refused with 401") == 3
        notes = journal.entries()
        opened = {note["session"] for note in notes if note["what"] == "open"}
        assert len(opened) == 2
        assert opened == {note["session"] for note in notes if note["what"] == "close"}

        wrong = await holdfast("doctor", backend.url, "--secret", "other", "--json")
        assert wrong.code == 1
        assert "is the secret the backend's" in findings(wrong)
        none = await holdfast("doctor", backend.url, "--json")
        assert none.code == 1
        assert "say --secret" in findings(none)
    async with Backend(tmp_path, APP, name="open") as backend:
        open_door = await holdfast("doctor", backend.url, environment={"HOLDFAST_SECRETS": "s3cret"})
        assert open_door.code == 1
        assert "whoever reaches it can send it events" in open_door.out
        rejected = await holdfast("doctor", backend.url, "--path", "/no")
        assert "rejects this client with 403 not in these shoes" in rejected.out
    journal.close()


def findings(ran: Ran) -> str:
    return "\n".join(f"{found['said']} {found['advice']}" for found in ran.json["findings"])


def _results(*actions: Mapping[str, Any]) -> Answer:
    return Answer("200 OK", [("Content-Type", JSON_TYPE)], json.dumps({"results": [{"actions": actions}]}).encode())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer("301 Moved", [("Location", "/edge/")]), ["a redirect to http://127.0.0.1", "/edge/", "callback_path"]),
        (Answer("404 Not Found", (), b"no such page"), ["status 404: no such page", "takes the events"]),
        (Answer("200 OK", [("Content-Type", "text/html")], b"<h1>Login</h1>"), ["a web page", "<h1>Login</h1>"]),
        (Answer("200 OK", [("Content-Type", "text/plain")], b"ok"), ["Content-Type is text/plain", JSON_TYPE]),
        (Answer("200 OK", [("Content-Type", JSON_TYPE)], b"{"), ["not JSON"]),
        (Answer("200 OK", [("Content-Type", JSON_TYPE)], b'{"results": []}'), ["has no result for event"]),
        (_results({"type": "sned", "text": "x"}), ["actions[0].type unknown action sned"]),
        (_results({"type": "send", "text": 1}), ["actions[0].text"]),
        (Answer("500 Oops", (), b"boom"), ["status 500: boom", "look at the backend's log"]),
        (Answer("403 Forbidden"), ["does not let the edge in", "--secret"]),
        (b"SSH-2.0-OpenSSH_9\r\n", ["no HTTP/1.1 answer"]),
    ],
)
async def test_the_doctor_says_what_a_sick_backend_does_wrong(answer: Answer | bytes, said: Sequence[str]) -> None:
    async def respond(asked: Asked) -> Answer | bytes:
        return answer

    async with raw_backend(respond) as backend:
        ran = await holdfast("doctor", backend.url, "--json")
        assert ran.code == 1
        assert ran.json["healthy"] is False
        for words in said:
            assert words in findings(ran)


async def test_the_doctor_says_when_nobody_is_there_and_when_the_answer_does_not_come() -> None:
    gone = await holdfast("doctor", f"http://127.0.0.1:{free_port()}/")
    assert gone.code == 1
    assert "is it running, and is it the right host and port?" in gone.out

    async def silent(asked: Asked) -> Answer | bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async with raw_backend(silent) as backend:
        slow = await holdfast("doctor", backend.url, "--timeout", "300ms")
        assert slow.code == 1
        assert "no answer within 0.3 s" in slow.out
        tls = await holdfast("doctor", backend.url.replace("http", "https"), "--timeout", "2s")
        assert tls.code == 1
        assert "does it speak TLS there? if not: http://" in tls.out


async def test_the_doctor_notices_a_backend_that_hangs_up_after_each_answer() -> None:
    async def respond(asked: Asked) -> bytes:
        return _results().encode().replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)

    async with raw_backend(respond) as backend:
        ran = await holdfast("doctor", backend.url)
        assert ran.code == 0
        assert "6 requests needed 6 connections" in ran.out


def _events(body: bytes, *headers: tuple[str, str]) -> Answer:
    return Answer("200 OK", [("Content-Type", "application/websocket-events"), *headers], body)


async def test_the_doctor_examines_a_backend_that_was_written_for_pushpin() -> None:
    signed = True

    async def respond(asked: Asked) -> Answer:
        if signed and asked.header("Grip-Sig") is None:
            return Answer("401 Unauthorized")
        kind = asked.body.partition(b"\r\n")[0].partition(b" ")[0]
        if kind == b"OPEN":
            return _events(b"OPEN\r\n", ("Sec-WebSocket-Extensions", "grip"))
        return _events(asked.body if kind in (b"TEXT", b"CLOSE") else b"")

    async with raw_backend(respond) as backend:
        good = await holdfast("doctor", "--grip", "--sig-key", "k" * 32, backend.url)
        assert good.code == 0, good
        assert [asked.body.partition(b"\r\n")[0] for asked in backend.asked] == [
            b"OPEN",
            b"TEXT 5",
            b"CLOSE 2",
            b"OPEN",
        ]
        signed = False
        open_door = await holdfast("doctor", "--grip", "--sig-key", "k" * 32, backend.url)
        assert open_door.code == 1
        assert "pretend to be an edge" in open_door.out
        assert backend.asked[-1].body.startswith(b"CLOSE")

    async def plain(asked: Asked) -> Answer:
        return Answer("200 OK", [("Content-Type", "text/plain")], b"hello")

    async with raw_backend(plain) as backend:
        bad = await holdfast("doctor", "--grip", backend.url)
        assert bad.code == 1
        assert "Content-Type is text/plain" in bad.out


@pytest.mark.parametrize("url", ["127.0.0.1:80", "ftp://x/", "http://"])
async def test_the_doctor_wants_a_url(url: str) -> None:
    ran = await holdfast("doctor", url)
    assert ran.code == 2
    assert "http://HOST:PORT/PATH is needed" in ran.err

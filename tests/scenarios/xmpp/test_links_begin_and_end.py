"""How links begin and end: credentials, logins, clients that leave and come back."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from backend_sdk import AsyncPublisher, actions
from backend_sdk.errors import BadCall, SessionGone
from edge.store.keys import Keys
from tests.scenarios.xmpp.holding import RESOURCE, Held, full_jid, held, link_id
from tests.scenarios.xmpp.kinds import ANY_KIND, EVERY_KIND
from tests.support.ports import LOOPBACK
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until
from tests.support.xmpp import HASHED_DOMAIN, PASSWORD
from tests.support.xmpp_peer import Peer

pytestmark = pytest.mark.scenario

LINK = link_id(0)


async def is_over(here: Held, link: str) -> None:
    """Wait until there is no such link: nothing of it is kept, so nobody will do anything about it any more."""
    names = Keys().link(link)

    def gone() -> bool:
        with here.redis.client() as client:
            return not client.exists(*names)

    await wait_until(gone, f"nothing is kept of {link}")
    assert await here.owner(link) == ""


async def logins(here: Held, count: int) -> None:
    """The server has been asked to log somebody in so often. It writes about that in order: the last one has to be one
    that the test has just seen succeed."""
    await wait_until(lambda: here.server.logins_tried() >= count, "the server has told of the last login")
    assert here.server.logins_tried() == count


# ---------------------------------------------------------------------- credentials


@EVERY_KIND
async def test_a_wrong_password_is_tried_once(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, server={"log_logins": True}) as here:
        await here.begin([0], password="not that")
        await here.happened("auth_failed", [0])
        [failed] = here.notes.of("auth_failed", LINK)
        assert (failed.fields["condition"], failed.fields["will_retry"]) == ("not-authorized", False)
        await is_over(here, LINK)
        await here.connect([1])
        await logins(here, 2)
        assert len(here.notes.of("auth_failed", LINK)) == 1


@EVERY_KIND
async def test_a_password_that_was_changed_ends_the_link_at_its_next_login(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, server={"log_logins": True}) as here:
        await here.connect([0])
        here.server.change_password(0, "another one")
        await here.kill(here.edges[0])
        await here.start_edge()
        await here.happened("auth_failed", [0])
        await is_over(here, LINK)
        await here.connect([1])
        await logins(here, 3)


class Monitor:
    """Every command that Redis is given while the block runs, by scripts too."""

    def __init__(self, server: RedisServer) -> None:
        self._client = redis.Redis(host=LOOPBACK, port=server.port)
        self.commands: list[str] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self) -> None:
        with contextlib.suppress(redis.RedisError, OSError, ValueError), self._client.monitor() as monitor:  # type: ignore[no-untyped-call]
            self._ready.set()
            for command in monitor.listen():
                self.commands.append(str(command["command"]))

    def __enter__(self) -> Monitor:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.connection_pool.disconnect()
        self._client.close()
        self._thread.join(30)


def shapes(secret: str, user: str) -> Iterator[str]:
    """What a secret looks like where somebody did not take care."""
    yield secret
    yield json.dumps(secret)[1:-1]
    yield secret.replace("&", "&amp;")
    for plain in (secret, f"\0{user}\0{secret}"):
        yield base64.b64encode(plain.encode()).decode()


@ANY_KIND
@pytest.mark.parametrize("form", ["password", "callback"])
async def test_passwords_are_found_nowhere(kind: str, form: str, tmp_path: Path) -> None:
    credentials: dict[str, Any] = {"callback": True} if form == "callback" else {}
    async with held(tmp_path, kind, 2, edge={"log_level": "debug"}) as here:
        with Monitor(here.redis) as monitor:
            # Ordered at both edges: the second one passes what it was told on to the first.
            for edge in here.edges:
                await here.begin([0], edge, **credentials)
                await here.happened("connected", [0])
            await here.happened("state", [0])
            [owner] = [edge for edge in here.edges if await here.links_of(edge, [0])]
            [other] = [edge for edge in here.edges if edge is not owner]
            await here.order((LINK, "give_credentials", {"password": PASSWORD}), edge=other)
            await here.kill(owner)
            await here.happened("resumed", [0])
            metrics = [(await edge.get("/metrics"))[1].decode() for edge in here.edges]
            status = [(await edge.get(f"/v1/sessions/{LINK}"))[1].decode() for edge in here.edges]
            assert monitor.commands
        files = {
            path: path.read_bytes()
            for path in tmp_path.rglob("*")
            if path.is_file() and here.server.scratch not in path.parents
        }
        assert any(path.name == "edge0.log" for path in files)
        for shape in shapes(PASSWORD, "u0"):
            assert not [path for path, content in files.items() if shape.encode() in content]
            assert not any(shape in text for text in (*monitor.commands, *metrics, *status))
        # Nobody had asked for the credentials that were given to be passed on: whoever gave them may be told so.
        here.notes.forgive_refusals()
        if form == "callback":
            asked = [told.fields["reason"] for told in here.notes.of("credentials", LINK)]
            assert asked == ["connect", "resume"]


@ANY_KIND
async def test_credentials_may_be_asked_for_at_each_login(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, 2) as here, Peer(here.server, 1) as contact:
        await here.connect([0], callback=True)
        for logins in (1, 2):
            [owner] = [edge for edge in here.edges if await here.links_of(edge, [0])]
            await here.backend.sigkill()
            await here.kill(owner)
            await here.start_edge()
            contact.say(full_jid(0), f"echo {logins}")
            await contact.all_taken()
            await here.backend.start()
            await here.happened("resumed", [0], logins)
            await contact.until_it_has([str(each) for each in range(1, logins + 1)])
        assert [told.fields["reason"] for told in here.notes.of("credentials", LINK)] == ["connect", "resume", "resume"]


# ---------------------------------------------------------------------- beginning twice


@ANY_KIND
async def test_a_link_that_is_ordered_again_is_left_as_it_is(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, 2, server={"log_logins": True}) as here:
        await here.connect([0])
        for times, edge in enumerate(here.edges, 1):
            await here.begin([0], edge)
            await here.happened("state", [0], times)
        for state in here.notes.of("state", LINK):
            assert state.fields["phase"] == "live"
            assert state.fields["resumable"]
            assert state.fields["jid"] == full_jid(0)
        assert len(here.notes.of("connected", LINK)) == 1
        await here.connect([1])
        await logins(here, 2)


@ANY_KIND
async def test_a_link_has_one_account(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, 2, server={"log_logins": True}) as here:
        await here.connect([0])
        for times, edge in enumerate(here.edges, 1):
            async with here.client((LINK, "connect", {"jid": here.server.jid(1)}), edge=edge):
                await wait_until(
                    lambda times=times: len(here.notes.refusals()) >= times,  # type: ignore[misc]
                    "the second account is refused",
                )
        await here.order((LINK, "get", {}))
        await here.happened("state", [0])
        [state] = here.notes.of("state", LINK)
        assert (state.fields["phase"], state.fields["jid"]) == ("live", full_jid(0))
        await here.connect([2])
        await logins(here, 2)
        here.notes.forgive_refusals()


@ANY_KIND
async def test_a_domain_that_the_settings_do_not_name_is_refused(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, server={"log_logins": True}) as here:
        async with here.client((LINK, "connect", {"jid": f"u0@{HASHED_DOMAIN}"})):
            await wait_until(here.notes.refusals, "it is refused")
        [refusal] = here.notes.refusals()
        assert HASHED_DOMAIN in refusal["error"]
        await is_over(here, LINK)
        await here.connect([1])
        await logins(here, 1)
        here.notes.forgive_refusals()


# ---------------------------------------------------------------------- clients that leave and come back


def session(here: Held, number: int, keep_s: float) -> tuple[str, str, dict[str, Any]]:
    """An order for a link that the acting client is attached to."""
    arguments = {
        "jid": here.server.jid(number), "resource": "edge", "presence": "<presence/>", "keep_after_detach_s": keep_s,
    }  # fmt: skip
    return link_id(number), "connect", arguments


@ANY_KIND
async def test_a_link_that_nobody_uses_logs_out_after_a_while_and_not_when_somebody_comes_back(
    kind: str, tmp_path: Path
) -> None:
    async with held(tmp_path, kind) as here, Peer(here.server, 2) as contact:
        async with here.client(session(here, 0, 3)):
            await here.happened("connected", [0])
        # The first one is let go before the second, and somebody comes back for it.
        async with here.client(session(here, 1, 3)):
            await here.happened("connected", [1])
            await wait_until(lambda: contact.saw(full_jid(0)) and contact.saw(full_jid(1)), "both are seen")
        async with here.client((LINK, "attach", {})):
            await here.happened("disconnected", [1])
            gone = ["available", "unavailable"]
            await wait_until(lambda: contact.saw(full_jid(1)) == gone, "the second one is gone")
            await is_over(here, link_id(1))
            contact.say(full_jid(0), "echo still here")
            await contact.until_it_has(["still here"])
            assert contact.saw(full_jid(0)) == ["available"]
            assert here.notes.of("disconnected", LINK) == []
        await here.happened("disconnected", [0])
        await is_over(here, LINK)


@ANY_KIND
async def test_an_edge_that_dies_takes_its_clients_away_from_their_links(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind) as here, Peer(here.server, 2) as contact:
        async with here.client(session(here, 0, 3)) as client:
            await here.happened("connected", [0])
            await here.kill(here.edges[0])
            assert (await client.ended()).code == 1006
        await here.start_edge()
        await here.happened("disconnected", [0])
        gone = ["available", "unavailable"]
        await wait_until(lambda: contact.saw(full_jid(0)) == gone, "the contact has seen it leave")
        await is_over(here, LINK)


@ANY_KIND
async def test_a_link_is_begun_by_the_control_api_without_any_client(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, 2) as here, Peer(here.server, 1) as contact:
        begun = actions.xmpp_connect(
            here.server.jid(0), password=PASSWORD, resource=RESOURCE, presence="<presence/>", id="a"
        )
        async with AsyncPublisher(here.edges[0].control_url) as publisher:
            with pytest.raises(BadCall, match="app: has no route here"):
                await publisher.act(LINK, [begun], app="another")
            assert await publisher.act(LINK, [begun, actions.xmpp_send(contact.jid, "first words")]) == "delivered"
            await here.happened("connected", [0])
            contact.say(full_jid(0), "echo and back")
            await contact.until_it_has(["first words", "and back"])
        async with AsyncPublisher(here.edges[1].control_url) as publisher:
            await publisher.act(LINK, [begun], app="default")
            [state] = await here.told("state", LINK)
            assert state.fields["phase"] == "live"
            await publisher.act(LINK, [actions.xmpp_disconnect()])
            await is_over(here, LINK)
            with pytest.raises(SessionGone, match="has ended since this order was carried out first"):
                await publisher.act(LINK, [begun])
        assert len(here.notes.of("connected", LINK)) == 1


@ANY_KIND
async def test_a_link_that_has_ended_can_begin_again(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind) as here, Peer(here.server, 1) as contact:
        await here.connect([0])
        await here.order((LINK, "disconnect", {}))
        await here.happened("disconnected", [0])
        await wait_until(lambda: contact.saw(full_jid(0))[-1:] == ["unavailable"], "the contact sees it leave")
        await is_over(here, LINK)
        await here.begin([0])
        await here.happened("connected", [0], 2)
        contact.say(full_jid(0), "echo here again")
        await contact.until_it_has(["here again"])


@EVERY_KIND
async def test_a_link_whose_resource_somebody_else_takes_is_over(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind, 2, server={"log_logins": True}) as here:
        await here.connect([0])
        async with Peer(here.server, 0, RESOURCE) as taker:
            assert taker.jid == full_jid(0)
            await here.happened("disconnected", [0])
            [ended] = here.notes.of("disconnected", LINK)
            assert (ended.fields["reason"], ended.fields["will_retry"]) == ("conflict", False)
            await is_over(here, LINK)
            await here.connect([1])
            await logins(here, 3)
            assert not taker.client.disconnected.done()


@EVERY_KIND
async def test_a_suspended_link_waits_at_its_server_until_it_is_needed(kind: str, tmp_path: Path) -> None:
    async with held(tmp_path, kind) as here, Peer(here.server, 1) as contact:
        await here.connect([0])
        await wait_until(lambda: contact.saw(full_jid(0)), "the contact sees it")
        await here.order((LINK, "suspend", {}))

        async def suspended() -> bool:
            await here.order((LINK, "get", {}))
            return any(told.fields["phase"] == "suspended" for told in here.notes.of("state", LINK))

        await wait_until(suspended, "the link is suspended")
        contact.say(full_jid(0), "waits")
        await contact.all_taken()
        assert here.notes.bodies(LINK) == []
        await here.order((LINK, "send", {"to": contact.jid, "body": "woken up"}))
        await contact.until_it_has(["woken up"])
        await here.has_heard(0, ["waits"])
        assert contact.saw(full_jid(0)) == ["available"]
        assert len(here.notes.of("connected", LINK)) == len(here.notes.of("resumed", LINK)) == 1

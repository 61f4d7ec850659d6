"""XMPP links in an app: handlers get what happened, and what they order stands on the wire as it should."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Literal

import pytest

from backend_sdk import (
    ActionError,
    App,
    Link,
    Message,
    Open,
    OtherLink,
    Refused,
    ReleaseChanged,
    RosterItem,
    Session,
    XmppAuthFailed,
    XmppConnected,
    XmppCredentials,
    XmppDisconnected,
    XmppIq,
    XmppIqResult,
    XmppMessage,
    XmppPresence,
    XmppReset,
    XmppRoster,
    XmppSendFailed,
    XmppState,
    actions,
)
from backend_sdk.testing import BackendFailed, SyncTestEdge, TestEdge

JID = "ada@chat.example"
VCARD = "<vCard xmlns='vcard-temp'/>"


def messenger() -> App:
    """A small XMPP client: browsers get what contacts write, and contacts what is written in the browser."""
    app = App(secrets=["s"])

    @app.on_open
    async def opened(session: Session, event: Open) -> None:
        session.identify("ada")
        session.subscribe("ada")
        session.xmpp.connect(JID, password="s3cret", roster=True)

    @app.on_message
    async def typed(session: Session, event: Message) -> None:
        session.xmpp.send("bob@chat.example", event.text, chat_state="active")

    @app.on_xmpp_connected
    async def connected(link: Link, event: XmppConnected) -> None:
        link.state["jid"] = event.jid
        link.iq("bob@chat.example", VCARD, name="vcard")
        link.iq(None, "<query xmlns='jabber:iq:version'/>")

    @app.on_xmpp_message
    def message(link: Link, event: XmppMessage) -> None:
        link.publish("ada", f"{event.sender}: {event.body}")

    @app.on_xmpp_iq(inline=True)
    def asked(link: Link, event: XmppIq) -> None:
        if event.stanza.query is not None and event.stanza.query.namespace == "vcard-temp":
            link.reply(event, VCARD)
        else:
            link.reply_error(event, "feature-not-implemented", text="no")

    @app.on_xmpp_iq_result("vcard")
    async def card(link: Link, event: XmppIqResult) -> None:
        link.publish("ada", f"card: {event.name} {event.ok}")

    @app.on_xmpp_iq_result
    async def other(link: Link, event: XmppIqResult) -> None:
        link.publish("ada", f"other: {event.name} {event.reason}")

    return app


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_a_messenger_from_login_to_goodbye(encoding: Literal["json", "msgpack"]) -> None:
    async with TestEdge(messenger(), encoding=encoding) as edge:
        tab = await edge.connect()
        link = edge.link("x:ada")
        assert (link.jid, link.phase, link.attached) == (JID, "connecting", [tab.id])
        assert link.orders == [actions.xmpp_connect(JID, password="s3cret", roster=True, session="x:ada")]
        await link.connected("desk")
        assert (link.phase, link.state, link.version) == ("live", {"jid": f"{JID}/desk"}, 1)
        await link.message("hi <3", sender="bob@chat.example/phone")
        await tab.send("hello")
        assert link.bodies == ["hello"]
        await link.iq(VCARD)
        assert link.sent[-1] == actions.xmpp_iq_reply(link.seq, VCARD)
        await link.iq("<query xmlns='jabber:iq:last'/>")
        assert link.sent[-1] == actions.xmpp_iq_reply(link.seq, condition="feature-not-implemented", text="no")
        await link.iq_result(VCARD)
        await link.iq_result(reason="timeout")
        assert tab.received == [
            "bob@chat.example/phone: hi <3",
            "card: vcard True",
            "other: None timeout",
        ]
        with pytest.raises(LookupError, match="nothing that is open"):
            await link.iq_result()
        await link.disconnected()
        assert not link.live
        with pytest.raises(ConnectionError, match="x:ada has ended"):
            await link.message("too late")


def test_the_twin_and_links_nobody_has_connected() -> None:
    with SyncTestEdge(messenger()) as edge:
        with pytest.raises(LookupError, match="nobody has connected x:ada"):
            edge.link("x:ada")
        link = edge.link("x:ada", jid=JID)
        link.connected()
        assert [order["type"] for order in link.sent] == ["xmpp.iq", "xmpp.iq"]


VISITOR = "visitor1@c.example"


async def test_a_component_speaks_for_everybody_at_its_domain() -> None:
    app, ends = App(), []

    @app.on_open
    async def opened(session: Session, event: Open) -> None:
        session.link("x:c").connect("c.example")

    @app.on_xmpp_connected
    async def connected(link: Link, event: XmppConnected) -> None:
        link.presence("bob@x", sender=VISITOR, show="chat")
        link.iq("x", VCARD, sender=VISITOR, name="vcard")

    @app.on_xmpp_message
    async def message(link: Link, event: XmppMessage) -> None:
        assert event.sender is not None
        link.send(event.sender, f"{event.body}, too", sender=event.stanza.to)

    @app.on_xmpp_iq
    async def asked(link: Link, event: XmppIq) -> None:
        ends.append(event.stanza.to)
        link.reply(event)

    @app.on_xmpp_iq_result("vcard")
    async def card(link: Link, event: XmppIqResult) -> None:
        assert event.stanza is not None
        ends.append(event.stanza.to)

    @app.on_xmpp_state
    async def state(link: Link, event: XmppState) -> None:
        ends.append(f"{event.jid} {event.resumable}")

    async with TestEdge(app) as edge:
        await edge.connect()
        link = edge.link("x:c")
        assert "auth" not in link.orders[0]
        await link.connected()
        assert (link.jid, link.phase) == ("c.example", "live")
        assert [(order["from"], order["to"]) for order in link.sent] == [(VISITOR, "bob@x"), (VISITOR, "x")]
        await link.message("me", sender="bob@x/p", to=VISITOR)
        await link.iq(VCARD, to=VISITOR)
        answers: list[actions.Action] = [
            actions.xmpp_send("bob@x/p", "me, too", sender=VISITOR),
            actions.xmpp_iq_reply(link.seq),
        ]
        assert link.sent[-2:] == list[Any](answers)
        await link.iq_result()
        await edge.connect()
        assert ends == [VISITOR, VISITOR, "c.example False"]
    with pytest.raises(ActionError, match="sender"):
        actions.xmpp_iq("x", VCARD, sender=5)  # type: ignore[arg-type]
    with pytest.raises(ActionError, match="nothing else"):
        actions.xmpp_presence(xml="<presence/>", sender=VISITOR)


async def test_an_event_that_is_handled_again_does_not_ask_again() -> None:
    app = App(dedupe_size=0)  # as another process, which remembers nothing
    asked: list[list[str]] = []

    @app.on_xmpp_connected
    async def connected(link: Link, event: XmppConnected) -> None:
        other = link.link("x:bob")
        asked.append([link.iq(None, VCARD), other.iq(None, VCARD, name="v"), link.iq(None, VCARD, id="k")])

    async with TestEdge(app) as edge:
        link = edge.link("x:ada", jid=JID)
        edge.link("x:bob", jid="bob@chat.example")
        edge.lose_answers(1)
        await link.connected()
        await link.connected()
    first, again, later = asked
    assert first == again == [order["id"] for order in link.asked[:1]] + first[1:]
    assert len({*first, *later}) == 5
    assert first[1].startswith("v#")
    assert first[2] == "k"


async def test_the_answer_to_a_links_event_is_repeated_as_it_was() -> None:
    app, seen = App(), []

    @app.on_xmpp_message
    async def message(link: Link, event: XmppMessage) -> None:
        seen.append(event.body)
        link.state["n"] = len(seen)
        link.to("s1").send(b"\x00\xff")
        link.send("bob@x", "got it", id="k")

    async with TestEdge(app) as edge:
        link = edge.link("x:ada", jid=JID)
        edge.lose_answers(1)
        await link.message("one")
        assert (seen, link.state) == (["one"], {"n": 1})
        ordered: list[actions.Action] = [
            actions.send(b"\x00\xff", session="s1"),
            actions.xmpp_send("bob@x", "got it", id="k"),
        ]
        assert link.last_actions == list[Any](ordered)


async def test_every_event_has_a_handler_of_its_own() -> None:
    app = App()
    seen: list[tuple[str, Any]] = []

    async def note(link: Link, event: Any) -> None:
        seen.append((event.type, event))

    for name in (
        "connected", "resumed", "message", "presence", "iq", "roster", "iq_result", "sent", "send_failed", "reset",
        "caught_up", "detached", "disconnected", "auth_failed", "credentials", "state", "release", "refused",
    ):  # fmt: skip
        assert getattr(app, f"on_xmpp_{name}")(note) is note
        assert getattr(App, f"on_xmpp_{name}").__doc__.endswith(".") or name == "refused"
    with pytest.raises(ValueError, match=r"handler for xmpp\.message"):
        app.on_xmpp_message(note)

    async with TestEdge(app) as edge:
        link, again = edge.link("x:ada", jid=JID), edge.link("x:bob", jid="bob@chat.example")
        await link.resumed(840, 3)
        await link.presence("bob@x/p", show="away", status="brb", priority=5)
        await link.roster(RosterItem("bob@x", "both", "Bob", False, ["Friends"]))
        await link.acknowledged("a-1")
        await link.send_failed(action_id="a-2", certain=False, text="why")
        await link.reset(server_h=4, resent=2, unknown=["a-3"], mam_after="K4")
        await link.caught_up(3, whole=False)
        await link.detached()
        await link.credentials("resume")
        await edge.promote("next")
        await link.disconnected(text="bye")
        await again.auth_failed()
    found = dict(seen)
    assert found["xmpp.resumed"].gap_ms == 840
    presence: XmppPresence = found["xmpp.presence"]
    assert (presence.sender, presence.stanza.show, presence.stanza.priority) == ("bob@x/p", "away", 5)
    assert presence.xml.endswith("><show>away</show><status>brb</status></presence>")
    roster: XmppRoster = found["xmpp.roster"]
    assert (roster.full, roster.items) == (True, (RosterItem("bob@x", "both", "Bob", False, ("Friends",)),))
    assert found["xmpp.sent"].action_ids == ("a-1",)
    failed: XmppSendFailed = found["xmpp.send_failed"]
    assert (failed.action_id, failed.reason, failed.certain, failed.text) == ("a-2", "invalid", False, "why")
    reset: XmppReset = found["xmpp.reset"]
    assert (reset.server_h, reset.resent, reset.unknown, reset.mam_after) == (4, 2, ("a-3",), "K4")
    assert (found["xmpp.caught_up"].count, found["xmpp.caught_up"].whole) == (3, False)
    assert found["xmpp.credentials"].reason == "resume"
    assert isinstance(found["release"], ReleaseChanged)
    ended: XmppDisconnected | XmppAuthFailed = found["xmpp.disconnected"]
    assert (ended.text, ended.will_retry) == ("bye", False)
    assert found["xmpp.auth_failed"].condition == "not-authorized"


async def test_state_is_asked_for_and_a_second_connect_tells_it() -> None:
    app = App()
    states: list[XmppState] = []

    @app.on_open
    async def opened(session: Session, event: Open) -> None:
        session.link("x:ada").connect(JID, callback=True, keep_after_detach_s=0)

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        order: OtherLink = session.link("x:ada")
        getattr(order, event.text)()

    @app.on_xmpp_credentials
    async def credentials(link: Link, event: XmppCredentials) -> None:
        link.give_credentials(token="t0ken")

    @app.on_xmpp_state
    async def state(link: Link, event: XmppState) -> None:
        states.append(event)

    async with TestEdge(app) as edge:
        first, second = await edge.connect(), await edge.connect()
        link = edge.link("x:ada")
        assert [each.attached for each in states] == [(first.id, second.id)]
        await link.credentials()
        assert link.orders[-1] == actions.xmpp_credentials(token="t0ken")
        await first.send("detach")
        await first.send("suspend")
        await second.send("get")
        assert (states[-1].phase, states[-1].attached) == ("suspended", (second.id,))
        await second.send("disconnect")
        assert link.phase == "ended"
        await second.send("get")
        third = await edge.connect()
        assert edge.link("x:ada") is not link
        assert edge.link("x:ada").attached == [third.id]


async def test_orders_for_links_that_are_not_there_are_told_like_those_for_sessions() -> None:
    app, gone = App(), []

    @app.on_message
    async def message(session: Session, event: Message) -> None:
        session.link("x:nobody").send("bob@x", "hi")

    @app.on_gone
    async def told(session: str) -> None:
        gone.append(session)

    async with TestEdge(app) as edge:
        tab = await edge.connect()
        await tab.send("one")
        await tab.send("two")
        assert gone == ["x:nobody"]


async def test_without_the_store_a_links_answer_is_refused_whole(caplog: pytest.LogCaptureFixture) -> None:
    app = App()

    @app.on_xmpp_message
    async def message(link: Link, event: XmppMessage) -> None:
        link.send("bob@x", "hi")

    @app.on_refused
    async def of_sessions(session: Session, event: Refused) -> None:
        raise AssertionError

    async with TestEdge(app) as edge:
        link = edge.link("x:ada", jid=JID)
        edge.store_away = True
        with caplog.at_level(logging.WARNING):
            await link.message("hi")
        assert "session x:ada: the edge could not carry out the answer" in caplog.text
        assert link.sent == []


async def test_a_link_is_pinned_and_takes_no_orders_meant_for_clients() -> None:
    app = App()

    @app.on_xmpp_message
    async def message(link: Link, event: XmppMessage) -> None:
        if event.body == "pin":
            link.pin("old")
        else:
            link.to("x:ada").send("hi")

    async with TestEdge(app) as edge:
        link = edge.link("x:ada", jid=JID)
        await link.message("pin")
        assert (link.pinned, link.release) == ("old", "old")
        with pytest.raises(BackendFailed, match="send is nothing"):
            await link.message("send")


def test_orders_come_too_late_and_need_a_user() -> None:
    link = Link("x:ada", "r", {"n": 1}, 1)
    other, tab = link.link("x:bob"), link.to("s1")
    link.state["n"] = 2
    assert link.finish() == ([], {"set": {"n": 2}})
    late: list[Callable[[], None]] = [
        link.get, other.suspend, lambda: tab.send("x"), lambda: link.publish("c", "x")
    ]  # fmt: skip
    for order in late:
        with pytest.raises(ActionError, match="the handler has returned"):
            order()
    with pytest.raises(ActionError, match="xmpp: the session has no user"):
        _ = Session("s1", None, "r", {}, 1, False).xmpp
    with pytest.raises(ActionError, match="link: must be a link's id"):
        Session("s1", "ada", "r", {}, 1, False).link("ada")
    with pytest.raises(ActionError, match="session: must be a session id"):
        Link("x:ada", "r", {}, 1).to("")
    assert "x:ada" in repr(link)


def test_a_failed_handler_orders_nothing() -> None:
    app = App()

    @app.on_xmpp_message
    async def message(link: Link, event: XmppMessage) -> None:
        link.state["n"] = 1
        link.get()
        raise RuntimeError("no")

    with SyncTestEdge(app) as edge:
        link = edge.link("x:ada", jid=JID)
        with pytest.raises(BackendFailed):
            link.message("hi")
        assert (link.orders, link.state) == ([], {})


SECRET = "correct horse battery staple"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"jid": "ada@chat.example/desk"}, "jid"),
        ({"jid": "a" * 1_100}, "jid"),
        ({"password": [SECRET]}, "password"),
        ({"password": SECRET, "token": SECRET}, "password"),
        ({"password": f"{SECRET}\0"}, "password"),
        ({"token": SECRET * 1_000}, "token"),
        ({"username": SECRET}, "password"),
        ({"jid": "chat.example", "password": SECRET}, "username"),
        ({"external": True, "username": SECRET}, "username"),
        ({"external": SECRET}, "external"),
        ({"scram": SECRET}, "scram"),
        ({"resource": "a\nb"}, "resource"),
        ({"attach": "s1"}, "attach"),
        ({"attach": ["s1", "x:ada"]}, "attach[1]"),
        ({"stanzas": ["iq", "pubsub"]}, "stanzas[1]"),
        ({"coalesce": "presence"}, "coalesce"),
        ({"keep_after_detach_s": float("nan")}, "keep_after_detach_s"),
        ({"roster": 1}, "roster"),
        ({"session": "ada"}, "session"),
    ],
)
def test_a_bad_connect_is_refused_at_the_call_and_no_secret_is_shown(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(ActionError) as refusal:
        actions.xmpp_connect(**{"jid": JID, **arguments})
    assert refusal.value.field == field
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (lambda link: link.iq(None, VCARD, name="a#b"), "name"),
        (lambda link: link.iq(None, VCARD, timeout_s=0), "timeout_s"),
        (lambda link: link.iq(None, VCARD, type="result"), "type"),
        (lambda link: link.reply(0), "seq"),
        (lambda link: link.reply_error(1, "<bad/>"), "condition"),
        (lambda link: link.send("b@x", receipt="received"), "receipt_id"),
        (lambda link: link.send("b@x", chat_state="typing"), "chat_state"),
        (lambda link: link.send_xml(b"<message/>"), "xml"),
        (lambda link: link.presence(xml="<presence/>", show="away"), "xml"),
        (lambda link: link.presence(priority=True), "priority"),
        (lambda link: link.give_credentials(), "password"),
        (lambda link: link.attach("x:bob"), "client"),
        (lambda link: link.attach(), "client"),
        (lambda link: link.detach(), "client"),
    ],
)
def test_a_bad_order_names_its_argument(order: Any, field: str) -> None:
    link = Link("x:ada", "r", {}, 1)
    with pytest.raises(ActionError) as refusal:
        order(link)
    assert refusal.value.field == field
    assert link.finish() == ([], {})

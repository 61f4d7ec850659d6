"""One client's WebSocket over HTTP, moment by moment: what its backend is asked, what it is shown, and how it ends."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest

from edge.config import LimitSettings, TargetSettings
from edge.model.release import StoredTable
from edge.model.release_changes import add, promote, set_cohorts, set_weights
from edge.protocol.grip.items import SocketFormat
from edge.sessions.grip.targets import subject_of, targets_of
from tests.unit.sessions.grip.pair import EVENTS, REQUEST, Pair, event, text

SUBSCRIBE = text('c:{"type": "subscribe", "channel": "a"}')
GRIP = {"Sec_WebSocket_Extensions": "grip"}


def two_targets(**second: object) -> list[TargetSettings]:
    return [TargetSettings("http://one/base"), TargetSettings("http://two", **second)]  # type: ignore[arg-type]


# The handshake.


def test_a_client_is_let_in_with_what_the_backend_says_of_it() -> None:
    pair = Pair()
    (request,) = pair.backend.asked
    assert request.startswith(b"POST /room?a=1 HTTP/1.1\r\nHost: chat.example\r\n")
    assert request.endswith(b"Content-Length: 6\r\n\r\nOPEN\r\n")
    pair.backend.answer(
        b"OPEN\r\n" + text("hi"), Set_Cookie="a=b", Sec_WebSocket_Protocol="chat", Set_Meta_User="alice"
    )
    assert pair.client.said == [("accept", "chat", True), "hi"]
    assert pair.client.accepted is not None
    assert ("Set-Cookie", "a=b") in pair.client.accepted
    pair.socket.received("x")
    assert b"Meta-User: alice\r\n" in pair.backend.asked[1]


def test_pings_may_be_answered_by_the_edge() -> None:
    pair = Pair(auto_pong=True)
    pair.backend.answer(b"OPEN\r\n")
    assert pair.client.said == [("accept", None, False)]


def test_a_pending_handshake_is_polled_until_it_is_answered() -> None:
    pair = Pair()
    pair.backend.answer(Keep_Alive_Interval="1")
    pair.pass_time(19.5)
    assert len(pair.backend.asked) == 1
    pair.pass_time(1)
    assert pair.backend.bodies == [b"OPEN\r\n"] * 2
    pair.backend.answer(b"OPEN\r\n")
    assert pair.client.said == [("accept", None, True)]


@pytest.mark.parametrize(
    ("status", "body", "headers", "rejection"),
    [
        (403, b"no", {"Content_Type": "text/x"}, (403, b"no")),
        (403, b"x" * 200_000, {"Content_Type": "text/x"}, (403, b"x" * 100_000)),
        (200, b"OPEN\r\n", {"Content_Type": "text/plain"}, (200, b"OPEN\r\n")),
        (503, b"", {"Content_Type": "text/plain", "Retry_After": "7"}, (503, b"")),
        (200, b"", {}, 502),
        (200, text("x"), {}, 502),
        (200, b"OPEN", {}, 502),
        (200, b"OPEN\r\n", {"Content_Bytes_Accepted": "1"}, 502),
    ],
)
def test_a_handshake_is_refused_and_forgotten(
    status: int, body: bytes, headers: dict[str, str], rejection: tuple[int, bytes] | int
) -> None:
    pair = Pair()
    pair.backend.answer(body, status, **headers)
    (said,) = pair.client.said
    assert isinstance(said, tuple)
    assert said[0] == "reject"
    assert said[1] == rejection if isinstance(rejection, int) else said[1:] == rejection
    assert pair.backend.quiet
    assert pair.forgotten


def test_the_next_target_is_asked_when_one_cannot_be_reached() -> None:
    pair = Pair(two_targets())
    assert pair.backend.asked[0].startswith(b"POST /base/room?a=1 HTTP/1.1\r\n")
    pair.backend.fail("connect", sent=False)
    assert pair.backend.asked[1].startswith(b"POST /room?a=1 HTTP/1.1\r\n")
    pair.backend.answer(b"OPEN\r\n")
    pair.socket.received("x")
    assert pair.backend.asked[2].startswith(b"POST /room?a=1 HTTP/1.1\r\n")
    assert pair.backend.targets == ["http://one/base", "http://two"]


@pytest.mark.parametrize(
    ("kind", "sent", "status"), [("connect", False, 502), ("reset", True, 502), ("timeout", True, 504)]
)
def test_a_client_nobody_takes_is_refused(kind: str, sent: bool, status: int) -> None:
    pair = Pair()
    pair.backend.fail(kind, sent=sent)
    rejection: Any = pair.client.said[0]
    assert rejection[:2] == ("reject", status)
    assert rejection[2].startswith(b"Error while proxying to origin: ")
    assert pair.forgotten


def test_a_target_that_may_have_acted_on_it_is_the_last() -> None:
    pair = Pair(two_targets())
    pair.backend.fail("reset", sent=True)
    assert len(pair.backend.asked) == 1
    assert pair.forgotten


def test_targets_that_are_not_over_http_are_passed_by() -> None:
    pair = Pair([TargetSettings("http://one", over_http=False), TargetSettings("http://two")])
    assert len(pair.backend.asked) == 1
    pair = Pair([TargetSettings("http://one", over_http=False)])
    assert pair.backend.asked == []
    assert pair.client.said[0][:2] == ("reject", 502)
    assert pair.forgotten


def test_a_client_that_goes_during_its_handshake_is_reported() -> None:
    pair = Pair()
    pair.client.end()
    pair.backend.answer(b"OPEN\r\n" + SUBSCRIBE, **GRIP)
    assert pair.backend.bodies == [b"OPEN\r\n", event("DISCONNECT")]
    pair.backend.answer()
    assert pair.room.members == {}
    assert pair.forgotten


@pytest.mark.parametrize("refusal", ["status", "failure", "nonsense"])
def test_a_client_that_went_and_was_refused_is_forgotten(refusal: str) -> None:
    pair = Pair()
    pair.client.end()
    if refusal == "failure":
        pair.backend.fail("connect", sent=False)
    else:
        pair.backend.answer(text("x"), 403 if refusal == "status" else 200)
    assert pair.backend.quiet
    assert pair.forgotten


# Failures afterwards.


@pytest.mark.parametrize(("kind", "sent"), [("connect", False), ("reset", True), ("reset", False), ("timeout", False)])
def test_a_request_is_tried_again_five_times(kind: str, sent: bool) -> None:
    pair = Pair().opened()
    pair.socket.received("x")
    for pause_s in (1, 2, 4, 8, 16):
        pair.backend.fail(kind, sent=sent)
        pair.pass_time(pause_s - 0.2)
        assert pair.backend.quiet
        pair.socket.received("meanwhile")
        pair.pass_time(0.4)
        assert pair.backend.bodies[-1] == text("x")
    pair.backend.fail(kind, sent=sent)
    assert pair.client.said == [("close", 1013, ANY)]
    pair.client.end(1013, clean=True, cause="backend")
    assert pair.backend.quiet
    assert pair.forgotten


def test_a_retry_that_succeeds_starts_the_count_anew_and_loses_nothing() -> None:
    pair = Pair().opened()
    pair.socket.received("x")
    for _ in range(3):
        for pause_s in (1, 2, 4, 8, 16):
            pair.backend.fail("connect", sent=False)
            pair.pass_time(pause_s + 0.2)
        pair.socket.received("y")
        pair.backend.answer(text("m:ok"))
        assert pair.backend.bodies[-1] == text("y")
    assert pair.client.said == ["ok"] * 3


@pytest.mark.parametrize(("kind", "code"), [("timeout", 1011), ("garbage", 1011), ("reset", 1013)])
def test_what_may_have_been_acted_on_ends_the_connection_where_once_is_enough(kind: str, code: int) -> None:
    pair = Pair(retry_unanswered=False).opened()
    pair.socket.received("x")
    pair.backend.fail(kind, sent=True)
    assert pair.client.said[0][:2] == ("close", code)


@pytest.mark.parametrize(
    ("status", "body", "headers", "code", "reason"),
    [
        (500, b"", {}, 1011, "backend answered 500"),
        (404, b"", {}, 1011, "backend answered 404"),
        (503, b"", {}, 1013, "backend answered 503"),
        (429, b"", {"Retry_After": "3600"}, 1013, "backend answered 429"),
        (200, b"", {"Content_Type": "text/html"}, 1011, "backend's answer is not application/websocket-events"),
        (200, b"TEXT zz\r\n", {}, 1011, "backend's events are malformed"),
        (200, event("TEXT", b"m:\xff"), {}, 1011, "backend sent text that is not UTF-8"),
        (200, b"OPEN\r\n", {}, 1011, "backend sent OPEN again"),
        (200, b"", {"Content_Bytes_Accepted": "2"}, 1011, "backend accepted more than it was offered"),
    ],
)
def test_a_bad_answer_closes_with_a_reason(
    status: int, body: bytes, headers: dict[str, str], code: int, reason: str
) -> None:
    pair = Pair().opened()
    pair.socket.received("x")
    pair.backend.answer(body, status, **headers)
    assert pair.client.said == [("close", code, reason)]
    pair.client.end(code, clean=True, cause="backend")
    assert pair.backend.quiet, "as behind Pushpin, it is not told"
    assert pair.forgotten


@pytest.mark.parametrize("status", [429, 503])
def test_a_backend_that_says_when_is_asked_again_then(status: int) -> None:
    pair = Pair().opened()
    pair.socket.received("x")
    pair.backend.answer(b"", status, Retry_After="7", Content_Type="text/plain")
    pair.pass_time(6.8)
    assert pair.backend.quiet
    pair.pass_time(0.4)
    assert pair.backend.bodies[-1] == text("x")
    pair.backend.answer(text("m:ok"))
    assert pair.client.said == ["ok"]


def test_a_disconnect_is_tried_again_and_no_answer_to_it_matters() -> None:
    pair = Pair().opened()
    pair.client.end()
    assert pair.backend.bodies == [event("DISCONNECT")]
    pair.backend.fail("connect", sent=False)
    assert not pair.forgotten
    pair.pass_time(1.2)
    assert pair.backend.bodies == [event("DISCONNECT")] * 2
    pair.backend.answer(b"", 404, Content_Type="text/plain")
    assert pair.forgotten


def test_a_disconnect_is_given_up_at_last() -> None:
    pair = Pair().opened()
    pair.client.end()
    for pause_s in (1, 2, 4, 8, 16):
        pair.backend.fail("connect", sent=False)
        pair.pass_time(pause_s + 0.2)
    pair.backend.fail("connect", sent=False)
    pair.pass_time(60)
    assert len(pair.backend.asked) == 6
    assert pair.forgotten


# Ends.


def test_what_a_client_said_before_it_vanished_is_told() -> None:
    pair = Pair().opened()
    pair.socket.received("one")
    pair.socket.received("two")
    pair.client.end()
    pair.backend.answer()
    pair.backend.answer()
    pair.backend.answer()
    assert pair.backend.bodies == [text("one"), text("two"), event("DISCONNECT")]
    assert pair.forgotten


def test_a_goodbye_is_answered_with_what_the_backend_says() -> None:
    pair = Pair().opened()
    pair.client.goodbye(4000, "bye")
    assert pair.backend.bodies == [event("CLOSE", b"\x0f\xa0bye")]
    pair.backend.answer(event("TEXT", "m:last") + event("CLOSE", b"\x00\x00"))
    assert pair.client.said[:2] == ["last", ("close", 1000, "")], "0 cannot be sent"
    pair.client.end(4000, clean=True)
    assert pair.forgotten


def test_a_goodbye_the_backend_does_not_answer_is_echoed() -> None:
    pair = Pair().opened()
    pair.client.goodbye(1005, "")
    assert pair.backend.bodies == [event("CLOSE")]
    pair.backend.answer()
    assert pair.client.said[-1] == "finish"


def test_a_client_that_broke_the_protocol_has_vanished() -> None:
    pair = Pair().opened()
    pair.client.goodbye(1002, "frame not masked")
    assert pair.backend.bodies == [event("DISCONNECT")]
    pair.backend.answer()
    assert pair.client.said[-1] == "finish"


def test_a_backend_that_drops_its_client_hears_no_more() -> None:
    pair = Pair().opened()
    pair.socket.received("x")
    pair.backend.answer(text("m:last") + event("DISCONNECT") + text("m:never"))
    assert pair.client.said[:2] == ["last", "drop"]
    assert pair.backend.quiet
    assert pair.forgotten


@pytest.mark.parametrize(("clean", "told"), [(True, event("CLOSE", b"\x0f\xa0why")), (False, event("DISCONNECT"))])
def test_a_backend_that_closed_hears_how_it_ended(clean: bool, told: bytes) -> None:
    pair = Pair().opened()
    pair.socket.received("x")
    pair.backend.answer(event("CLOSE", b"\x0f\xa0why") + text("m:never"))
    assert pair.client.said == [("close", 4000, "why")]
    assert pair.backend.quiet
    pair.client.end(4000, "why", clean=clean, cause="backend")
    assert pair.backend.bodies[-1] == told
    pair.backend.answer(event("CLOSE"))
    assert pair.forgotten


# Orders.


def test_malformed_orders_are_counted_and_end_nothing(caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair().opened()
    pair.socket.received("x")
    bad = ["c:", "c:{", "c:[]", 'c:{"type": "subscribe"}', 'c:{"type": 7}', 'c:{"type": "new"}', "c:\ud800"[:2]]
    with caplog.at_level(logging.WARNING):
        pair.backend.answer(b"".join(text(one) for one in bad) + text("m:ok"))
    assert pair.client.said == ["ok"]
    assert pair.handle.meters.bad_results.value == len(bad)
    assert 1 <= len(caplog.records) <= 2, "said once, not for each"


async def test_a_client_is_let_in_when_its_subscriptions_stand() -> None:
    pair = Pair()
    pair.room.pending = []
    pair.backend.answer(b"OPEN\r\n" + SUBSCRIBE + text("m:in"), **GRIP)
    assert pair.client.said == []
    pair.pass_time(2.2)
    assert pair.client.said == [("accept", None, True), "in"], "but it does not wait for ever"


async def test_publications_during_an_answer_come_behind_it() -> None:
    pair = Pair().opened()
    pair.room.pending = []
    pair.socket.received("x")
    pair.backend.answer(text("m:before") + SUBSCRIBE + text("m:after"))
    pair.room.publish("a", SocketFormat(content="published"))
    assert pair.client.said == ["before"]
    pair.socket.received("y")
    assert pair.backend.quiet
    pair.socket._carry_on(pair.socket._standstill)  # type: ignore[arg-type]
    assert pair.client.said == ["before", "after", "published"]
    assert pair.backend.bodies[-1] == text("y")


def test_publications_do_what_they_say() -> None:
    pair = Pair().opened(SUBSCRIBE)
    for content, kind in (("t", "text"), (b"b", "binary"), (b"p", "ping"), (b"", "pong")):
        pair.room.publish("a", SocketFormat(content=content, kind=kind))  # type: ignore[arg-type]
    assert pair.client.said == ["t", b"b", ("ping", b"p"), ("pong", b"")]
    pair.room.publish("a", SocketFormat("refresh"))
    assert pair.backend.bodies == [b""]
    pair.room.publish("a", SocketFormat("close", code=999, reason="r" * 200))
    assert pair.client.said[-1] == ("close", 1000, "r" * 123)
    pair.backend.answer()
    assert pair.backend.bodies[-1] == event("CLOSE")
    pair.client.end(1000, clean=True, cause="backend")
    assert pair.room.members == {}
    pair.backend.answer()
    assert pair.forgotten


def test_filters_that_fail_close_a_connection_only_where_people_look_for_mistakes() -> None:
    pair = Pair(debug=True).opened(SUBSCRIBE)
    pair.socket.skipped(None, "no such filter")  # type: ignore[arg-type]
    assert pair.client.said == [("close", 1011, "no such filter")]
    pair = Pair().opened(SUBSCRIBE)
    pair.socket.skipped(None, "no such filter")  # type: ignore[arg-type]
    assert pair.client.said == []


def test_subscriptions_past_the_limit_are_ignored_and_their_client_named(caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair(limits=LimitSettings(subscriptions=2), prefix="p-").opened()
    pair.socket.received("x")
    with caplog.at_level(logging.WARNING):
        pair.backend.answer(b"".join(text(f'c:{{"type": "subscribe", "channel": "{name}"}}') for name in "abcdba"))
    assert set(pair.room.members) == {"p-a", "p-b"}
    assert pair.handle.meters.limits_hit["subscriptions"].value == 2
    (record,) = caplog.records
    assert "192.0.2.7:4711" in record.getMessage()


@pytest.mark.parametrize("at_once", [True, False])
def test_too_many_filters_end_a_connection(at_once: bool) -> None:
    order = text('c:{"type": "subscribe", "channel": "b", "filters": ["1", "2", "3", "4", "5", "6"]}')
    pair = Pair()
    pair.backend.answer(b"OPEN\r\n" + (order if at_once else b""), **GRIP)
    if not at_once:
        pair.socket.received("x")
        pair.backend.answer(order)
    assert pair.client.said[1:] == [("close", 1011, "too many filters for channel 'b'")]
    assert pair.backend.bodies[-1] == event("CLOSE")


def test_implicit_channels_have_no_prefix_and_stay() -> None:
    pair = Pair([TargetSettings("http://one", subscribe=("all",))], prefix="p-").opened(SUBSCRIBE)
    assert set(pair.room.members) == {"all", "p-a"}
    pair.socket.received("x")
    pair.backend.answer(b"".join(text(f'c:{{"type": "unsubscribe", "channel": "{name}"}}') for name in ("all", "a")))
    assert set(pair.room.members) == {"all"}


def test_meta_is_for_filters() -> None:
    pair = Pair().opened(text('c:{"type": "set-meta", "name": "user", "value": "alice"}'))
    assert pair.socket.meta == {"user": "alice"}
    pair.socket.received("x")
    pair.backend.answer(text('c:{"type": "set-meta", "name": "user"}'))
    assert pair.socket.meta == {}


def test_an_idle_connection_is_kept_alive() -> None:
    pair = Pair().opened(SUBSCRIBE, text('c:{"type": "keep-alive", "content": "k", "timeout": 10}'))
    pair.pass_time(9)
    pair.room.publish("a", SocketFormat(content="x"))
    pair.pass_time(9)
    assert pair.client.said == ["x"]
    pair.pass_time(2)
    assert pair.client.said == ["x", "k"]
    pair.pass_time(10)
    assert pair.client.said == ["x", "k", "k"]
    pair.client.end()
    pair.pass_time(30)
    assert pair.client.said == ["x", "k", "k"]


def test_an_interval_does_not_care_for_other_messages() -> None:
    order = '{"type": "keep-alive", "content-bin": "AAE=", "message-type": "ping", "mode": "interval", "timeout": 10}'
    pair = Pair().opened(SUBSCRIBE, text("c:" + order))
    for _ in range(4):
        pair.pass_time(5.1)
        pair.room.publish("a", SocketFormat(content="x"))
    assert pair.client.said.count(("ping", b"\0\1")) == 2


def test_delayed_messages_come_in_their_time_or_earlier() -> None:
    later = '{"type": "send-delayed", "content": "%s", "timeout": 5}'
    pair = Pair().opened(text("c:" + later % "one"))
    pair.pass_time(4)
    assert pair.client.said == []
    pair.pass_time(1.2)
    assert pair.client.said == ["one"]
    pair.socket.received("x")
    pair.backend.answer(text("c:" + later % "two") + text("m:now") + text("c:" + later % "three"))
    assert pair.client.said == ["one", "now", "two"]
    pair.socket.received("x")
    pair.backend.answer(text('c:{"type": "flush-delayed"}') + text("m:then"))
    assert pair.client.said == ["one", "now", "two", "three", "then"]
    pair.pass_time(20)
    assert len(pair.client.said) == 5


def test_a_detached_connection_is_on_its_own() -> None:
    pair = Pair().opened(SUBSCRIBE)
    pair.socket.received("x")
    pair.backend.answer(text('c:{"type": "detach"}'))
    assert pair.backend.bodies[-1] == event("CLOSE")
    pair.backend.answer(text("m:nobody listens"), 500)
    pair.socket.received("into the void")
    pair.room.publish("a", SocketFormat(content="x"))
    assert pair.client.said[-1] == "x"
    assert ("close", 1011, "backend answered 500") not in pair.client.said
    pair.client.goodbye(4000, "")
    assert pair.client.said[-1] == "finish"
    pair.client.end(4000, clean=True)
    assert pair.backend.quiet
    assert pair.forgotten


# Flow.


def test_a_client_is_not_read_from_while_its_buffer_is_full() -> None:
    pair = Pair(buffer_bytes=1_000).opened()
    pair.socket.received("x" * 600)
    assert not pair.client.paused
    pair.socket.received("x" * 600)
    assert pair.client.paused
    pair.backend.answer()
    assert not pair.client.paused, "only what is under way is left"
    pair.socket.received("x" * 600)
    assert pair.client.paused
    assert pair.handle.meters.reading_paused.value == 1
    pair.client.end()
    assert pair.handle.meters.reading_paused.value == 0


def test_a_client_that_is_behind_is_not_asked_about() -> None:
    pair = Pair().opened()
    pair.socket.congested(True)
    pair.socket.received("x")
    assert pair.backend.quiet
    pair.socket.congested(False)
    assert pair.backend.bodies == [text("x")]


def test_what_was_not_accepted_is_said_to_come_again() -> None:
    pair = Pair().opened()
    pair.socket.received("hello")
    pair.backend.answer(Content_Bytes_Accepted="2")
    assert pair.backend.quiet
    pair.socket.received("new")
    assert b"Content-Bytes-Replayed: 3\r\n" in pair.backend.asked[-1]
    assert pair.backend.bodies[-1] == text("llo") + text("new")


def test_polls_follow_the_last_answer() -> None:
    pair = Pair().opened(Keep_Alive_Interval="30")
    pair.pass_time(20)
    pair.socket.received("x")
    pair.backend.answer()
    pair.pass_time(20)
    assert pair.backend.quiet
    pair.pass_time(10.2)
    assert pair.backend.bodies == [text("x"), b""]
    pair.backend.answer(Keep_Alive_Interval="0")
    pair.pass_time(100)
    assert len(pair.backend.asked) == 2


# Releases and drains.


def test_the_next_request_goes_where_the_release_is_now() -> None:
    pair = Pair().opened()
    old = pair.releases.table(pair.handle.settings)
    new = promote(add(old, "new", "http://elsewhere/app", 1), "new")
    pair.releases.update("default", StoredTable(1, new.to_document()))
    pair.socket.received("x")
    assert pair.backend.targets[-1] == "http://elsewhere/app"
    assert pair.backend.asked[-1].startswith(b"POST /app/room?a=1 HTTP/1.1\r\nHost: chat.example\r\n")
    pair.backend.answer()
    pair.releases.update("default", StoredTable(2, old.to_document()))
    pair.socket.received("x")
    assert pair.backend.asked[-1].startswith(b"POST /room?a=1 HTTP/1.1\r\nHost: chat.example\r\n")


def test_who_is_told_to_leave_gets_what_it_is_owed() -> None:
    pair = Pair().opened(text('c:{"type": "send-delayed", "content": "late", "timeout": 50}'))
    assert pair.socket.closable
    pair.socket.received("x")
    pair.socket.leave(1012, "service restart", "drain")
    assert pair.client.paused
    assert not pair.socket.closable
    assert pair.client.said == []
    pair.backend.answer(text("m:answer"))
    assert pair.client.said == ["answer", "late", ("close", 1012, "service restart")]
    pair.client.end(1012, clean=True, cause="backend")
    assert pair.handle.meters.connections_closed["drain"].value == 1
    assert pair.backend.bodies[-1] == event("DISCONNECT")
    pair.backend.answer()
    assert pair.forgotten


def test_who_waits_for_a_backend_that_is_away_can_be_told_to_go() -> None:
    pair = Pair().opened()
    pair.socket.received("x")
    pair.backend.fail("connect", sent=False)
    pair.socket.leave(1012, "service restart", "drain")
    assert pair.client.said == []
    pair.socket.leave_now()
    assert pair.client.said == [("close", 1012, "service restart")]


def test_requests_wait_as_long_as_the_route_says() -> None:
    pair = Pair()
    assert pair.backend.timeout_s == pair.handle.settings.timeouts.request_s
    assert EVENTS in pair.backend.asked[0]


def test_a_cohort_and_a_share_hold_for_clients_of_grip_routes_too() -> None:
    pair = Pair()
    table = pair.releases.table(pair.handle.settings)
    new = set_cohorts(add(table, "new", "http://elsewhere/app", 1), "new", ["query:a=1"])
    pair.releases.update("default", StoredTable(1, new.to_document()))
    other = replace(REQUEST, query="")
    route = pair.handle.settings
    targets = [targets_of(route, pair.releases, subject_of(route, pair.releases, each)) for each in (REQUEST, other)]
    assert [found[0].url for found in targets] == ["http://elsewhere/app", route.backend]
    pair.releases.update("default", StoredTable(2, set_weights(new, {route.release: 1, "new": 1}).to_document()))
    agents = [replace(other, headers=(("User-Agent", f"agent {number}"),)) for number in range(200)]
    chosen = [targets_of(route, pair.releases, subject_of(route, pair.releases, each))[0].url for each in agents]
    assert 60 < chosen.count("http://elsewhere/app") < 140
    assert chosen == [targets_of(route, pair.releases, subject_of(route, pair.releases, a))[0].url for a in agents]

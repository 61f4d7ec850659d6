"""Requests on their way to backends, and answers on their way back or held."""

from __future__ import annotations

import base64
import json

import pytest

from edge.backend.origin_base import Unanswered
from edge.config import GripRouteSettings, LimitSettings, TargetSettings
from tests.unit.sessions.grip.fakes import REFUSED, RESET, House, as_dict, response

HELD = [("Grip-Hold", "response"), ("Grip-Channel", "a"), ("Content-Type", "text/plain"), ("X-Own", "1")]


def test_an_answer_without_instructions_passes_as_it_comes() -> None:
    house = House()
    client, exchange = house.ask("/x?y=1", headers=[("Cookie", "c"), ("Connection", "close"), ("Grip-Sig", "forged")])
    request = house.backends.last
    assert (request.method, request.target, request.field("host")) == ("GET", "/x?y=1", "edge:7999")
    assert request.field("cookie") == "c"
    assert request.field("connection") is None
    assert (request.field("grip-sig") or "").count(".") == 2
    request.begin(("X-Answer", "1"), ("Connection", "close"), status=404, length=5)
    assert (client.status, client.reason, client.length) == (404, "Sure", 5)
    assert client.headers == [("X-Answer", "1")]
    request.listener.body(b"he")
    assert client.take() == b"he"
    exchange.congested(True)
    assert request.paused
    exchange.congested(False)
    assert not request.paused
    request.listener.body(b"llo")
    request.listener.ended([(b"X-Trailer", b"t")])
    assert (client.take(), client.ended, client.trailers) == (b"llo", True, [("X-Trailer", "t")])
    assert len(house.services.held) == 0


def test_a_body_streams_to_the_backend_with_its_trailers_and_at_its_pace() -> None:
    house = House()
    client, exchange = house.ask(method="POST", length=None)
    request = house.backends.last
    assert request.field("transfer-encoding") == "chunked"
    exchange.body(b"hello")
    request.listener.sending_paused(True)
    assert client.paused
    request.listener.sending_paused(False)
    assert not client.paused
    exchange.body(b"you")
    exchange.body_ended([("X-T", "1")])
    assert request.body == b"5\r\nhello\r\n3\r\nyou\r\n0\r\nX-T: 1\r\n\r\n"
    assert request.complete_


def test_the_next_target_gets_the_whole_request_when_one_cannot_be_reached() -> None:
    house = House(targets=[TargetSettings("http://one:1"), TargetSettings("http://two:2")])
    client, exchange = house.ask(method="POST", length=4)
    exchange.body(b"ab")
    first = house.backends.last
    first.listener.failed(REFUSED)
    second = house.backends.last
    assert (first.url, second.url) == ("http://one:1", "http://two:2")
    exchange.body(b"cd")
    exchange.body_ended(())
    assert second.body == b"abcd"
    assert second.complete_
    second.answer(body=b"ok")
    assert client.body == b"ok"


def test_without_a_target_left_the_client_is_told() -> None:
    house = House(GripRouteSettings(debug=True), [TargetSettings("http://one:1"), TargetSettings("http://two:2")])
    client, _ = house.ask()
    house.backends.last.listener.failed(REFUSED)
    house.backends.last.listener.failed(REFUSED)
    assert (client.status, client.reason) == (502, "Bad Gateway")
    assert b"one:1, two:2" in client.body


@pytest.mark.parametrize(
    ("failure", "status", "body"),
    [
        (RESET, 502, b"Error while proxying to origin.\n"),
        (Unanswered("timeout", "silence", sent=True), 504, b"The origin did not answer in time.\n"),
    ],
)
def test_a_request_that_was_heard_is_not_given_to_another_target(failure: Unanswered, status: int, body: bytes) -> None:
    house = House(targets=[TargetSettings("http://one:1"), TargetSettings("http://two:2")])
    client, _ = house.ask()
    house.backends.last.listener.failed(failure)
    assert len(house.backends.requests) == 1
    assert (client.status, client.body) == (status, body)
    assert len(house.services.held) == 0


def test_an_answer_that_breaks_off_is_cut_off_for_the_client_too() -> None:
    house = House()
    client, _ = house.ask()
    house.backends.last.begin(length=10)
    house.backends.last.listener.failed(RESET)
    assert client.aborted
    assert not client.ended


def test_a_client_that_goes_cancels_its_request() -> None:
    house = House()
    _, exchange = house.ask()
    exchange.gone("client")
    assert house.backends.last.cancelled
    assert len(house.services.held) == 0


def test_clients_do_not_speak_to_backends_in_the_name_of_the_edge() -> None:
    house = House()
    client, _ = house.ask(method="POST", headers=[("Content-Type", "application/websocket-events; x=y")], length=6)
    assert (client.status, client.body) == (403, b"Client not allowed to send WebSocket events directly.\n")
    assert not house.backends.requests
    house = House(targets=[TargetSettings("http://b:1", over_http=False)])
    house.ask(method="POST", headers=[("Content-Type", "application/websocket-events")], length=6)
    assert house.backends.requests


async def test_a_response_is_held_until_it_is_published() -> None:
    house = House(GripRouteSettings(prefix="p-"))
    client, _ = house.hold(*HELD, body=b"timeout\n")
    assert not client.status
    house.hub.publish(response("p-a", b"news", code=201, reason="New", headers=[("x-own", "2"), ("X-More", "3")]))
    assert (client.status, client.reason, client.body) == (201, "New", b"news")
    assert as_dict(client.headers) == {"Content-Type": "text/plain", "x-own": "2", "X-More": "3"}
    assert not house.hub.members
    assert len(house.services.held) == 0


async def test_a_response_is_answered_with_what_was_kept_when_its_time_is_out() -> None:
    house = House()
    client, _ = house.hold(*HELD, ("Grip-Timeout", "7"), ("Grip-Status", "404 Not Yet"), body=b"timeout\n")
    house.pass_time(6_900)
    assert not client.status
    house.pass_time(200)
    assert (client.status, client.reason, client.body) == (404, "Not Yet", b"timeout\n")
    assert not house.hub.members


async def test_a_patch_is_applied_to_the_held_body() -> None:
    house = House()
    client, _ = house.hold(*HELD, body=b'{"a": 1}\n')
    house.hub.publish(response("a", patch=[{"op": "replace", "path": "/a", "value": 2}]))
    assert json.loads(client.body) == {"a": 2}


async def test_a_patch_that_does_not_fit_ends_the_hold() -> None:
    house = House()
    client, _ = house.hold(*HELD, body=b"no json")
    house.hub.publish(response("a", patch=[{"op": "replace", "path": "/a", "value": 2}]))
    assert (client.status, client.body) == (502, b"Error while proxying to origin.\n")
    assert not house.hub.members


async def test_instructions_may_come_as_json() -> None:
    house = House()
    instruct = {
        "hold": {"mode": "response", "channels": [{"name": "a"}], "timeout": 10},
        "response": {"code": 202, "headers": {"X-J": "1"}, "body-bin": base64.b64encode(b"late").decode()},
    }
    client, _ = house.hold(("Content-Type", "application/grip-instruct"), body=json.dumps(instruct).encode())
    house.pass_time(11_000)
    assert (client.status, client.headers, client.body) == (202, [("X-J", "1")], b"late")
    client, _ = house.hold(("Content-Type", "application/grip-instruct"), body=b'{"response": {"body": "now"}}')
    assert (client.status, client.body) == (200, b"now")


@pytest.mark.parametrize(("debug", "text"), [(False, b"Error while proxying to origin.\n"), (True, None)])
def test_a_malformed_instruction_is_the_backends_fault(
    debug: bool, text: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(GripRouteSettings(debug=debug))
    client, _ = house.hold(("Grip-Hold", "for-ever"), path="/bad")
    assert client.status == 502
    assert client.body == text or (text is None and b"Grip-Hold must be" in client.body)
    assert "/bad" in caplog.text
    assert "Grip-Hold must be" in caplog.text
    assert house.route.meters.bad_results.value == 1


def test_what_is_held_is_bounded() -> None:
    house = House(GripRouteSettings(hold_bytes=10))
    client, _ = house.hold(*HELD, body=b"x" * 11)
    assert client.status == 502
    client, exchange = house.ask(method="POST", length=11)
    exchange.body(b"x" * 11)
    exchange.body_ended(())
    house.backends.last.answer(*HELD, body=b"ok")
    assert (client.status, client.body) == (400, b"Request too large to accept GRIP instruct.\n")
    assert not house.hub.members


async def test_only_so_many_subscriptions_take_effect() -> None:
    house = House(limits=LimitSettings(subscriptions=3))
    house.hold(("Grip-Hold", "response"), ("Grip-Channel", ", ".join(f"c{n}" for n in range(5))))
    assert sorted(house.hub.members) == ["c0", "c1", "c2"]


def test_an_exchange_that_is_not_held_passes_its_status_and_exposed_headers() -> None:
    house = House()
    client, _ = house.hold(
        ("Grip-Status", "404"), ("Grip-Expose-Headers", "X-B"), ("X-A", "1"), ("X-B", "2"), body=b"x"
    )
    assert (client.status, client.headers, client.length, client.body) == (404, [("X-B", "2")], 1, b"x")


async def test_implicit_channels_of_the_target_are_subscribed_to() -> None:
    house = House(targets=[TargetSettings("http://b:1", subscribe=["all"])])
    client, _ = house.hold(*HELD)
    assert sorted(house.hub.members) == ["a", "all"]
    house.hub.publish(response("all", b"to everybody"))
    assert client.body == b"to everybody"
    assert not house.hub.members


async def test_a_drain_gives_a_held_response_its_timeout_answer() -> None:
    house = House()
    client, exchange = house.hold(*HELD, body=b"later")
    assert exchange.closable
    exchange.leave(1012, "service restart", "drain")
    assert client.body == b"later"
    assert not exchange.closable


async def test_a_drain_waits_for_answers_under_way_and_holds_nothing_more() -> None:
    house = House()
    client, exchange = house.ask()
    exchange.leave(1012, "service restart", "drain")
    assert not exchange.closable
    assert len(house.services.held) == 1
    house.backends.last.answer(*HELD, body=b"later")
    assert client.body == b"later"
    client, exchange = house.ask()
    exchange.leave_now()
    assert client.aborted
    assert house.backends.last.cancelled
    assert len(house.services.held) == 0


# -- asking again ------------------------------------------------------------------------------------------------


async def test_a_hint_repeats_the_request_as_it_was() -> None:
    house = House()
    client, exchange = house.ask("/poll", "POST", [("X-Mine", "1")], None)
    exchange.body(b"what ")
    exchange.body(b"is new")
    exchange.body_ended(())
    house.backends.last.answer(("Grip-Hold", "response"), ("Grip-Channel", "a; prev-id=1"))
    house.hub.publish(response("a", action="hint", id="2", prev_id="1"))
    again = house.backends.last
    assert len(house.backends.requests) == 2
    assert (again.method, again.target, again.field("x-mine"), again.body) == ("POST", "/poll", "1", b"what is new")
    assert again.field("content-length") == "11"
    assert again.field("grip-last") == "a; last-id=2"
    again.answer(("X-New", "1"), body=b"this")
    assert (client.status, client.body) == (200, b"this")
    assert not house.hub.members
    assert len(house.services.held) == 0


async def test_an_item_with_a_gap_before_it_is_asked_for() -> None:
    house = House()
    client, _ = house.hold(("Grip-Hold", "response"), ("Grip-Channel", "a; prev-id=1"))
    house.hub.publish(response("a", b"three", id="3", prev_id="2"))
    house.soon()
    assert house.backends.last.field("grip-last") == "a; last-id=1"
    house.backends.last.answer(body=b"two and three")
    assert client.body == b"two and three"


async def test_a_channel_that_went_on_before_the_subscription_is_asked_about_once() -> None:
    house = House()
    house.hub.ids["a"] = "5"
    client, _ = house.hold(("Grip-Hold", "response"), ("Grip-Channel", "a; prev-id=4"))
    house.soon()
    assert len(house.backends.requests) == 2
    house.backends.last.answer(("Grip-Hold", "response"), ("Grip-Channel", "a; prev-id=4"), body=b"late")
    house.soon()
    assert len(house.backends.requests) == 2
    house.hub.publish(response("a", b"six", id="6", prev_id="4"))
    assert client.body == b"six"


async def test_what_comes_while_the_backend_is_asked_is_not_lost() -> None:
    house = House()
    client, _ = house.hold(*HELD)
    house.hub.member("a").missed("a")
    house.soon()
    house.hub.publish(response("a", b"meanwhile"))
    assert not client.status
    house.backends.last.answer(*HELD)
    assert client.body == b"meanwhile"


async def test_a_backend_that_is_away_is_asked_later_while_the_client_waits() -> None:
    house = House()
    client, _ = house.hold(*HELD, ("Grip-Timeout", "50"), body=b"late")
    house.hub.member("a").missed("a")
    house.soon()
    house.backends.last.listener.failed(REFUSED)
    house.pass_time(2_000)
    assert len(house.backends.requests) == 3
    house.backends.last.answer(status=503)
    assert not client.status
    house.pass_time(3_000)
    assert len(house.backends.requests) == 4
    house.backends.last.answer(body=b"here I am")
    assert client.body == b"here I am"


async def test_the_deadline_holds_while_the_backend_is_asked() -> None:
    house = House()
    client, _ = house.hold(*HELD, ("Grip-Timeout", "5"), body=b"late")
    house.hub.member("a").missed("a")
    house.soon()
    house.pass_time(6_000)
    assert client.body == b"late"
    assert house.backends.last.cancelled
    assert len(house.services.held) == 0


async def test_a_gone_link_is_told_when_the_hold_ends() -> None:
    house = House()
    _, exchange = house.hold(*HELD, ("Grip-Link", "</gone?id=1>; rel=gone"))
    exchange.gone("client")
    assert len(house.services.held) == 1
    house.soon()
    assert (house.backends.last.method, house.backends.last.target) == ("POST", "/gone?id=1")
    assert house.backends.last.field("content-length") == "0"
    house.backends.last.listener.failed(REFUSED)
    house.pass_time(2_000)
    house.backends.last.answer(status=204)
    assert len(house.backends.requests) == 3
    assert len(house.services.held) == 0


async def test_a_hold_may_begin_before_its_request_has_ended() -> None:
    house = House()
    client, exchange = house.ask(method="POST", length=4)
    exchange.body(b"ab")
    house.backends.last.listener.sending_paused(True)
    house.backends.last.answer(*HELD)
    assert not client.paused
    house.hub.member("a").missed("a")
    house.soon()
    assert len(house.backends.requests) == 1
    exchange.body(b"cd")
    exchange.body_ended(())
    house.pass_time(2_000)
    assert house.backends.last.body == b"abcd"
    house.backends.last.answer(body=b"well")
    assert client.body == b"well"

"""Bodies that go on: publications, keep-alives, and links that are followed."""

from __future__ import annotations

import json

import pytest

from edge.config import GripRouteSettings, TargetSettings
from edge.protocol.grip.items import Item
from tests.unit.sessions.grip.fakes import REFUSED, RESET, Client, House, stream

STREAM = [("Grip-Hold", "stream"), ("Grip-Channel", "a")]
NEXT = ("Grip-Link", "</next?page=2>; rel=next")


def begun(house: House, *headers: tuple[str, str], body: bytes = b"first\n") -> Client:
    client, _ = house.hold(*headers, body=body)
    assert client.take() == body
    assert client.length is None
    return client


async def test_publications_are_appended_to_a_first_body_of_any_size() -> None:
    house = House(GripRouteSettings(hold_bytes=10))
    client, _ = house.ask()
    house.backends.last.begin(*STREAM, ("Content-Type", "text/event-stream"), length=40)
    assert (client.status, client.length, client.headers) == (200, None, [("Content-Type", "text/event-stream")])
    for _ in range(4):
        house.backends.last.listener.body(b"x" * 10)
        assert len(client.take()) == 10
    assert not house.hub.members
    house.backends.last.listener.ended([])
    house.hub.publish(stream("a", b"one\n"))
    assert client.take() == b"one\n"
    house.hub.publish(stream("a", b"two\n"))
    assert client.take() == b"two\n"
    house.hub.publish(stream("a", action="close"))
    assert client.ended
    assert not house.hub.members
    assert len(house.services.held) == 0


async def test_keep_alives_come_when_nothing_else_does() -> None:
    house = House()
    client = begun(house, *STREAM, ("Grip-Keep-Alive", r":\n; format=cstring; timeout=20"))
    house.pass_time(19_000)
    assert client.take() == b""
    house.hub.publish(stream("a", b"x"))
    house.pass_time(19_000)
    assert client.take() == b"x"
    house.pass_time(600)
    assert client.take() == b":\n"
    house.pass_time(40_000)
    assert client.take() == b":\n:\n"


async def test_keep_alives_at_intervals_do_not_mind_what_else_comes() -> None:
    house = House()
    client = begun(house, *STREAM, ("Grip-Keep-Alive", "Og==; format=base64; timeout=20; mode=interval"))
    house.pass_time(19_000)
    house.hub.publish(stream("a", b"x"))
    house.pass_time(600)
    assert client.take() == b"x:"


async def test_a_silent_stream_follows_its_link_and_does_what_that_says() -> None:
    house = House()
    client = begun(house, *STREAM, NEXT)
    house.pass_time(119_000)
    assert len(house.backends.requests) == 1
    house.pass_time(14_000)
    request = house.backends.last
    assert (request.method, request.target, request.field("host")) == ("GET", "/next?page=2", "edge:7999")
    assert (request.field("grip-sig") or "").count(".") == 2
    assert (request.field("cookie"), request.field("x-forwarded-for")) == (None, None)
    request.answer(("Grip-Hold", "stream"), ("Grip-Channel", "b"), body=b"second\n")
    assert client.take() == b"second\n"
    assert list(house.hub.members) == ["b"]
    house.hub.publish(stream("b", b"three\n"))
    assert client.take() == b"three\n"
    house.pass_time(300_000)
    assert len(house.backends.requests) == 2


async def test_activity_on_all_channels_postpones_the_link() -> None:
    house = House()
    begun(house, ("Grip-Hold", "stream"), ("Grip-Channel", "a, b"), ("Grip-Link", "</n>; rel=next; timeout=10"))
    house.pass_time(9_000)
    house.hub.publish(stream("a", b"x"))
    house.hub.publish(stream("b", b"x"))
    house.pass_time(9_000)
    assert len(house.backends.requests) == 1
    house.hub.publish(stream("a", b"x"))
    house.pass_time(3_000)
    assert len(house.backends.requests) == 2


async def test_links_without_a_hold_are_followed_to_the_end() -> None:
    house = House()
    client = begun(house, NEXT)
    house.soon()
    house.backends.last.answer(("Grip-Link", "<?page=3>; rel=next"), body=b"second\n")
    house.soon()
    assert house.backends.last.target == "/next?page=3"
    house.backends.last.answer(body=b"third\n")
    assert client.take() == b"second\nthird\n"
    assert client.ended
    assert len(house.services.held) == 0


async def test_ids_without_a_link_end_the_stream_after_its_first_body(caplog: pytest.LogCaptureFixture) -> None:
    house = House()
    client, _ = house.hold(("Grip-Hold", "stream"), ("Grip-Channel", "a; prev-id=1"), body=b"first")
    assert (client.body, client.ended) == (b"first", True)
    assert "no next link" in caplog.text
    house = House(GripRouteSettings(debug=True))
    client, _ = house.hold(("Grip-Hold", "stream"), ("Grip-Channel", "a; prev-id=1"), body=b"first")
    assert client.body == b"first\n\nchannel 'a' specifies prev-id, but no next link found\n"


async def test_a_gap_is_filled_by_the_link_and_what_came_meanwhile_follows() -> None:
    house = House()
    client = begun(house, ("Grip-Hold", "stream"), ("Grip-Channel", "a; prev-id=1"), NEXT)
    house.hub.publish(stream("a", b"2", id="2", prev_id="1"))
    house.hub.publish(stream("a", b"2", id="2", prev_id="1"))
    house.hub.publish(stream("a", b"4", id="4", prev_id="3"))
    assert client.take() == b"2"
    house.soon()
    assert house.backends.last.field("grip-last") == "a; last-id=2"
    house.hub.publish(stream("a", b"5", id="5", prev_id="4"))
    house.hub.publish(stream("a", b"6", id="6", prev_id="5"))
    house.backends.last.answer(("Grip-Hold", "stream"), ("Grip-Channel", "a; prev-id=5"), NEXT, body=b"345")
    assert client.take() == b"3456"
    house.hub.publish(stream("a", b"7", id="7", prev_id="6"))
    assert client.take() == b"7"
    assert len(house.backends.requests) == 2


async def test_items_that_filters_keep_away_leave_no_gap() -> None:
    house = House()
    client = begun(house, ("Grip-Hold", "stream"), ("Grip-Channel", "a; prev-id=1"), NEXT)
    house.hub.member("a").skipped(Item("a", id="2", prev_id="1"))
    house.hub.publish(stream("a", b"3", id="3", prev_id="2"))
    assert client.take() == b"3"
    assert house.hub.member("a").channels == {"a": "3"}


async def test_a_channel_that_went_on_before_the_subscription_is_fetched() -> None:
    house = House()
    house.hub.ids["a"] = "3"
    client = begun(house, ("Grip-Hold", "stream"), ("Grip-Channel", "a; prev-id=1"), NEXT)
    house.soon()
    house.backends.last.answer(("Grip-Hold", "stream"), ("Grip-Channel", "a; prev-id=3"), NEXT, body=b"23")
    house.soon()
    assert client.take() == b"23"
    assert len(house.backends.requests) == 2


async def test_a_hint_fetches_at_once() -> None:
    house = House()
    client = begun(house, *STREAM, NEXT)
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    house.backends.last.answer(*STREAM, NEXT, body=b"new")
    assert client.take() == b"new"
    begun(house, *STREAM)
    count = len(house.backends.requests)
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    assert len(house.backends.requests) == count + 1


async def test_many_holds_share_one_request_and_its_answer() -> None:
    house = House()
    clients = [begun(house, *STREAM, NEXT) for _ in range(50)]
    other = begun(house, *STREAM, ("Grip-Link", "</next?page=other>; rel=next"))
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    first, second = house.backends.requests[-2:]
    assert len(house.backends.requests) == 53
    first.answer(*STREAM, NEXT, body=b"for all")
    second.answer(*STREAM, NEXT, body=b"for one")
    assert {client.take() for client in clients} == {b"for all"}
    assert other.take() == b"for one"


async def test_a_link_is_tried_again_while_nothing_of_it_was_shown() -> None:
    house = House()
    client = begun(house, *STREAM, NEXT)
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    for pause_ms in (1_500, 2_500, 4_500, 8_500):
        house.backends.last.listener.failed(REFUSED)
        count = len(house.backends.requests)
        house.pass_time(pause_ms - 100)
        assert len(house.backends.requests) == count
        house.pass_time(200)
        assert len(house.backends.requests) == count + 1
    house.backends.last.answer(status=500, body=b"oops")
    house.pass_time(17_000)
    house.backends.last.answer(*STREAM, body=b"at last")
    assert client.take() == b"at last"


async def test_a_link_that_stays_away_ends_the_stream() -> None:
    house = House(GripRouteSettings(debug=True))
    client = begun(house, *STREAM, NEXT)
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    for _ in range(6):
        house.backends.last.listener.failed(REFUSED)
        house.pass_time(20_000)
    assert (client.body, client.ended) == (b"\n\nFailed to retrieve next link.\n", True)
    assert len(house.backends.requests) == 7


async def test_a_link_that_breaks_off_in_its_body_ends_the_stream() -> None:
    house = House()
    client = begun(house, *STREAM, NEXT)
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    house.backends.last.begin(*STREAM)
    house.backends.last.listener.body(b"half")
    house.backends.last.listener.failed(RESET)
    assert (client.body, client.ended) == (b"half", True)


@pytest.mark.parametrize("answer", [("Grip-Hold", "response"), ("Grip-Hold", "nonsense")])
async def test_a_link_with_a_wrong_answer_ends_the_stream(answer: tuple[str, str]) -> None:
    house = House()
    client = begun(house, *STREAM, NEXT)
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    house.backends.last.answer(answer, body=b"x")
    assert (client.body, client.ended) == (b"", True)


async def test_the_answer_to_a_link_may_be_json() -> None:
    house = House()
    client = begun(house, *STREAM, NEXT)
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    instruct = {"hold": {"mode": "stream", "channels": [{"name": "j"}]}, "response": {"body": "from json"}}
    house.backends.last.answer(("Content-Type", "application/grip-instruct"), body=json.dumps(instruct).encode())
    assert client.take() == b"from json"
    assert list(house.hub.members) == ["j"]


async def test_a_link_elsewhere_is_fetched_there() -> None:
    house = House()
    begun(house, *STREAM, ("Grip-Link", "<https://other.example:8443/n?x=1>; rel=next"))
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    request = house.backends.last
    assert (request.url, request.target) == ("https://other.example:8443", "/n?x=1")
    assert request.field("host") == "other.example:8443"
    assert request.field("grip-sig") is not None


async def test_a_client_that_is_behind_slows_the_fetch_and_keeps_a_chain_waiting() -> None:
    house = House()
    client, exchange = house.ask()
    house.backends.last.begin(NEXT)
    house.backends.last.listener.body(b"first")
    exchange.congested(True)
    assert house.backends.last.paused
    exchange.congested(False)
    house.backends.last.listener.ended([])
    house.soon()
    request = house.backends.last
    request.begin(NEXT)
    exchange.congested(True)
    assert request.paused
    request.listener.body(b"second")
    request.listener.ended([])
    house.soon()
    assert house.backends.last is request
    exchange.congested(False)
    house.soon()
    assert house.backends.last is not request
    house.backends.last.answer(body=b"third")
    assert (client.take(), client.ended) == (b"firstsecondthird", True)


async def test_who_holds_up_a_shared_answer_for_too_long_is_cut() -> None:
    house = House()
    quick = begun(house, *STREAM, NEXT)
    slow, exchange = house.hold(*STREAM, NEXT)
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    request = house.backends.last
    request.begin(*STREAM, NEXT)
    request.listener.body(b"x")
    exchange.congested(True)
    assert request.paused
    house.pass_time(11_000)
    assert slow.aborted
    assert not request.paused
    request.listener.ended([])
    assert quick.take() == b"x"
    assert len(house.services.held) == 1


async def test_a_drain_ends_the_body() -> None:
    house = House()
    client, exchange = house.hold(*STREAM, ("Grip-Link", "</gone>; rel=gone"))
    exchange.leave(1012, "service restart", "drain")
    assert client.ended
    house.soon()
    assert house.backends.last.target == "/gone"
    house.backends.last.answer()
    assert len(house.services.held) == 0


async def test_a_client_that_goes_leaves_nothing_behind() -> None:
    house = House(targets=[TargetSettings("http://b:1", subscribe=["all"])])
    _, exchange = house.hold(*STREAM, NEXT, ("Grip-Keep-Alive", "x; timeout=20"))
    house.hub.publish(stream("a", action="hint"))
    house.soon()
    exchange.gone("slow")
    assert house.backends.last.cancelled
    assert not house.hub.members
    assert len(house.services.held) == 0
    house.pass_time(600_000)
    assert len(house.backends.requests) == 2


async def test_a_head_request_holds_nothing() -> None:
    house = House()
    client, _ = house.ask(method="HEAD")
    house.backends.last.answer(*STREAM)
    assert client.ended
    assert not house.hub.members


async def test_filters_of_channels_apply_to_first_bodies() -> None:
    house = House()
    headers = [
        ("Grip-Hold", "stream"), ("Grip-Channel", "a; prev-id=1; filter=build-id"), NEXT,
        ("Grip-Set-Meta", 'id_format="%(a)s"'),
    ]  # fmt: skip
    client, _ = house.hold(*headers, body=b"100%% %(7)I")
    assert client.take() == b"100% 7"
    house.hub.publish(stream("a", action="hint"))
    assert house.hub.member("a").meta == {"id_format": "%(a)s"}


async def test_filters_that_cannot_be_carried_out_are_told_in_debug_mode_only() -> None:
    house = House(GripRouteSettings(debug=True))
    client = begun(house, *STREAM)
    house.hub.member("a").skipped(Item("a"), "content filter mismatch")
    assert client.body == b"\n\ncontent filter mismatch\n"
    house = House()
    client = begun(house, *STREAM)
    house.hub.member("a").skipped(Item("a"), "content filter mismatch")
    assert not client.ended


async def test_an_item_made_for_other_filters_is_asked_for_where_there_are_ids() -> None:
    house = House()
    client = begun(house, ("Grip-Hold", "stream"), ("Grip-Channel", "a; prev-id=1"), NEXT)
    house.hub.member("a").skipped(Item("a", id="2", prev_id="1"), "content filter mismatch")
    house.soon()
    assert house.backends.last.field("grip-last") == "a; last-id=1"
    house.backends.last.answer(("Grip-Hold", "stream"), ("Grip-Channel", "a; prev-id=2"), NEXT, body=b"2")
    assert client.take() == b"2"

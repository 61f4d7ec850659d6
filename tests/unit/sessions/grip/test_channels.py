"""GRIP's channels on a real Redis: everybody gets what is meant for them, in sequence, once, and hears of gaps."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from edge.config import GripRouteSettings, GripSettings
from edge.errors import StoreUnavailable
from edge.protocol.grip.items import Item, ResponseFormat, SocketFormat, StreamFormat
from edge.sessions.grip.channels import GRIP_PREFIX, is_grip
from edge.store.base import HistoryPolicy
from tests.support.redis import RedisServer
from tests.support.waiting import wait_until
from tests.unit.sessions.grip.conftest import GripEdge, Guest, OpenGripEdge


def item(content: str = "x", id: str | None = None, prev: str | None = None, channel: str = "room") -> Item:
    """With all three formats."""
    return Item(
        channel,
        id,
        prev,
        socket=SocketFormat(content=content),
        stream=StreamFormat(content=content.encode()),
        response=ResponseFormat(body=content.encode()),
    )


async def until_read(guest: Guest, *contents: str) -> None:
    await wait_until(lambda: guest.read == list(contents), f"{contents} arrive; so far: {guest.read}")


# -- who gets what


async def test_an_item_published_on_one_edge_reaches_members_of_all_kinds_on_every_edge(
    edge: GripEdge, other: GripEdge
) -> None:
    guests = [(where, Guest(kind)) for where in (edge, other) for kind in ("socket", "stream", "response")]
    elsewhere = Guest()
    for where, guest in guests:
        await where.join(guest, "room")
    await edge.join(elsewhere, "hall")
    await edge.publisher.publish([item("one"), item("two")])
    for _, guest in guests:
        await until_read(guest, "one", "two")
    assert elsewhere.read == []


async def test_members_take_their_own_format_only(edge: GripEdge) -> None:
    socket, stream, response = Guest("socket"), Guest("stream"), Guest("response")
    for guest in (socket, stream, response):
        await edge.join(guest, "room")
    await edge.publisher.publish([replace(item("for sockets"), stream=None, response=None), item("all")])
    await until_read(socket, "for sockets", "all")
    await until_read(stream, "all")
    await until_read(response, "all")
    delivered = edge.metrics.route("*/", "").items_delivered
    assert {name: counter.value for name, counter in delivered.items()} == {
        "ws-message": 2,
        "http-stream": 1,
        "http-response": 1,
    }


async def test_one_delivery_and_one_frame_serve_everybody(edge: GripEdge) -> None:
    guests = [Guest() for _ in range(5)] + [Guest("stream")]
    for guest in guests:
        await edge.join(guest, "room")
    await edge.publisher.publish([item("x")])
    for guest in guests:
        await until_read(guest, "x")
    assert len({id(guest.deliveries[0]) for guest in guests}) == 1


async def test_who_has_left_gets_nothing_more(edge: GripEdge) -> None:
    stays, goes = Guest(), Guest()
    for guest in (stays, goes):
        await edge.join(guest, "room")
    edge.channels.leave(goes, "room")
    edge.channels.leave(goes, "room")
    edge.channels.leave(goes, "never joined")
    await edge.publisher.publish([item("x")])
    await until_read(stays, "x")
    assert goes.read == []


async def test_names_of_grip_are_not_those_of_other_routes(edge: GripEdge, other: GripEdge) -> None:
    guest = Guest()
    await edge.join(guest, "room")
    await other.store.publish("room", "of a callback route", HistoryPolicy())
    await other.publisher.publish([item("of a GRIP route")])
    await until_read(guest, "of a GRIP route")
    assert is_grip(GRIP_PREFIX + "room")
    assert not is_grip("room")


async def test_a_member_that_raises_harms_nobody_else(edge: GripEdge, caplog: pytest.LogCaptureFixture) -> None:
    guests = [Guest() for _ in range(6)]

    def broken() -> None:
        raise RuntimeError("this member is broken")

    guests[0].on_delivery = guests[3].on_delivery = broken
    for number, guest in enumerate(guests):
        await edge.join(guest, "room", *(["skip-self"] if number >= 3 else []))
    await edge.publisher.publish([item("x")])
    for number in (1, 2, 4, 5):
        await until_read(guests[number], "x")
    assert edge.metrics.process.items_dropped["failed"].value == 2
    assert "this member is broken" in caplog.text


async def test_something_that_is_no_item_is_told_in_the_log_and_harms_nobody(
    edge: GripEdge, caplog: pytest.LogCaptureFixture
) -> None:
    guest = Guest()
    await edge.join(guest, "room")
    await edge.store.publish(GRIP_PREFIX + "room", b"\xc1 rubbish", HistoryPolicy())
    await edge.publisher.publish([item("x")])
    await until_read(guest, "x")
    assert "channel room: something that is no item was published" in caplog.text
    assert edge.metrics.process.items_dropped["unreadable"].value == 1


# -- filters


async def test_filters_keep_items_from_members_and_change_their_content(edge: GripEdge) -> None:
    ann, bob = Guest(meta={"user": "ann"}), Guest(meta={"user": "bob"})
    plain = Guest()
    for guest in (ann, bob):
        await edge.join(guest, "room", "skip-self", "var-subst")
    await edge.join(plain, "room")
    await edge.publisher.publish([replace(item("hi %(user)s", "1"), meta={"sender": "ann"}), item("end")])
    await until_read(ann, "end")
    await until_read(bob, "hi bob", "end")
    await until_read(plain, "hi %(user)s", "end")
    assert ann.left_out == [("1", None)]
    assert edge.metrics.process.items_dropped["filter"].value == 1


async def test_members_whose_filters_make_the_same_of_an_item_share_its_delivery(edge: GripEdge) -> None:
    ann, again, bob = (Guest(meta={"user": user}) for user in ("ann", "ann", "bob"))
    for guest in (ann, again, bob):
        await edge.join(guest, "room", "var-subst")
    await edge.publisher.publish([item("hi %(user)s")])
    await until_read(bob, "hi bob")
    await until_read(again, "hi ann")
    assert ann.deliveries == again.deliveries
    assert ann.deliveries[0] is again.deliveries[0]


async def test_an_item_for_other_content_filters_is_left_out_with_the_reason(edge: GripEdge) -> None:
    plain, filtered = Guest(), Guest(meta={"user": "ann"})
    await edge.join(plain, "room")
    await edge.join(filtered, "room", "var-subst")
    wants = SocketFormat(content="%(user)s", filters=("var-subst",))
    unwanted = SocketFormat(content="no filters", filters=())
    await edge.publisher.publish(
        [Item("room", "1", socket=wants), Item("room", "2", "1", socket=unwanted), item("end")]
    )
    await until_read(plain, "no filters", "end")
    await until_read(filtered, "ann", "end")
    assert plain.left_out == [("1", "content filter mismatch: subscription= message=var-subst")]
    assert filtered.left_out == [("2", "content filter mismatch: subscription=var-subst message=")]


# -- sequence


async def test_items_go_in_the_order_of_their_ids_and_each_once(edge: GripEdge, other: GripEdge) -> None:
    guest = Guest()
    await edge.join(guest, "room")
    await other.publisher.publish([item("1", "1")])
    results = await other.publisher.publish([item("3", "3", "2"), item("4", "4", "3"), item("2", "2", "1")])
    assert not any(result.duplicate for result in results)
    again = await edge.publisher.publish([item("3 again", "3", "2"), item("end")])
    assert [result.duplicate for result in again] == [True, False]
    await until_read(guest, "1", "2", "3", "4", "end")


async def test_an_item_whose_predecessor_never_comes_goes_after_a_while(
    open_grip_edge: OpenGripEdge, redis_url: str, prefix: str
) -> None:
    edge = await open_grip_edge(redis_url, prefix, GripSettings(message_wait_s=0.2))
    guest = Guest()
    await edge.join(guest, "room")
    await edge.publisher.publish([item("1", "1"), item("3", "3", "2")])
    await until_read(guest, "1", "3")
    assert await edge.channels.last_id("room") == "3"


async def test_the_newest_id_is_known_to_an_edge_that_comes_later(edge: GripEdge, other: GripEdge) -> None:
    assert await edge.channels.last_id("room") is None
    await edge.publisher.publish([item("1", "1"), item("2", "2", "1")])
    late = Guest("stream")
    await other.join(late, "room")
    assert [await asked for asked in [other.channels.last_id("room") for _ in range(2)]] == ["2", "2"]
    # And the sequence goes on from there.
    await edge.publisher.publish([item("4", "4", "3"), item("3", "3", "2")])
    await until_read(late, "3", "4")
    assert await other.channels.last_id("room") == "4"
    assert await edge.channels.last_id("nobody published here") is None


async def test_a_channel_stays_known_for_a_while_after_its_last_held_response(
    open_grip_edge: OpenGripEdge, redis_url: str, prefix: str
) -> None:
    edge = await open_grip_edge(redis_url, prefix, GripSettings(subscription_linger_s=0.5))
    gauge = edge.metrics.process.grip_channels
    poll, socket = Guest("response"), Guest("socket")
    await edge.join(poll, "polled")
    await edge.join(socket, "open")
    assert gauge.value == 2
    edge.channels.leave(socket, "open")
    assert gauge.value == 1
    edge.channels.leave(poll, "polled")
    assert gauge.value == 1
    await edge.join(poll, "polled")
    edge.channels.leave(poll, "polled")
    assert gauge.value == 1
    await wait_until(lambda: gauge.value == 0, "the channel is let go of")


# -- what may have been missed


async def test_who_comes_first_without_an_id_is_asked_to_look_again_once(
    edge: GripEdge, open_grip_edge: OpenGripEdge, url: str, prefix: str
) -> None:
    unsure, sure, socket = Guest("stream"), Guest("response"), Guest("socket")
    sure.channels = {"room": "7"}
    for guest in (unsure, sure, socket):
        await edge.join(guest, "room")
    await wait_until(lambda: unsure.told_missed == ["room"], "the first one is told")
    late = Guest("stream")
    await edge.join(late, "room")
    off = await open_grip_edge(url, prefix, GripSettings(update_on_first_subscription=False))
    unasked = Guest("stream")
    await off.join(unasked, "room")
    await edge.join(marker := Guest("stream"), "another room")
    await wait_until(lambda: marker.told_missed == ["another room"], "another second has passed")
    assert unsure.told_missed == ["room"]
    assert (sure.told_missed, socket.told_missed, late.told_missed, unasked.told_missed) == ([], [], [], [])


async def test_recover_forgets_ids_and_tells_every_member_on_every_edge(edge: GripEdge, other: GripEdge) -> None:
    here, there = Guest("stream"), Guest("socket")
    here.channels = {"room": "1"}
    await edge.join(here, "room")
    await other.join(there, "room")
    await edge.publisher.publish([item("1", "1"), item("3", "3", "2")])
    await until_read(here, "1")
    await other.publisher.recover()
    await wait_until(lambda: (here.told_missed, there.told_missed) == (["room"], ["room"]), "both are told")
    await until_read(here, "1", "3")
    await until_read(there, "1", "3")
    assert await edge.channels.last_id("room") is None


async def test_after_a_break_of_the_bus_those_are_told_whose_channel_moved_on(edge: GripEdge, other: GripEdge) -> None:
    edge.settings[0] = GripSettings(update_on_first_subscription=False)
    moved, still, leapt, unknown, asked = [Guest("stream") for _ in range(5)]
    channels = {"moved": moved, "still": still, "leapt": leapt, "unknown": unknown, "asked": asked}
    await other.publisher.publish([item("0", "0", channel="asked")])
    for channel, guest in channels.items():
        await edge.join(guest, channel)
    assert await edge.channels.last_id("asked") == "0"
    firsts = [item("1", "1", channel=channel) for channel in ("moved", "still", "leapt")]
    await other.publisher.publish([*firsts, item("1", channel="unknown")])
    for guest in (moved, still, leapt, unknown):
        await until_read(guest, "1")

    edge.channels.interrupted()
    edge.lost = lambda item: item.channel in ("moved", "leapt") and item.id in ("2", "3")
    missed = [item("2", "2", "1", channel=channel) for channel in ("moved", "leapt")]
    await other.publisher.publish([*missed, item("3", "3", "2", channel="leapt")])
    # Heard before anybody has looked for what is missing: it waits for its predecessor.
    await other.publisher.publish([item("4", "4", "3", channel="leapt"), item("2", channel="unknown")])
    await until_read(unknown, "1", "2")
    await wait_until(lambda: edge.metrics.process.items_received.value == 6, "all that are not lost have come")
    edge.channels.restored([GRIP_PREFIX + channel for channel in channels] + ["of a callback route"])

    await wait_until(lambda: leapt.told_missed == ["leapt"], "the one with a gap is told")
    await until_read(moved, "1", "2")
    await until_read(leapt, "1", "4")
    assert (moved.told_missed, unknown.told_missed) == (["moved"], ["unknown"])
    await other.publisher.publish([item("2", "2", "1", channel="still"), item("5", "5", "4", channel="leapt")])
    await until_read(still, "1", "2")
    await until_read(leapt, "1", "4", "5")
    assert (still.told_missed, asked.told_missed) == ([], [])
    assert await edge.channels.last_id("leapt") == "5"


async def test_after_a_restart_of_redis_members_hear_items_again(
    open_grip_edge: OpenGripEdge, redis_server: RedisServer, prefix: str
) -> None:
    edge = await open_grip_edge(redis_server.url, prefix, GripSettings(update_on_first_subscription=False))
    known, unknown = Guest("stream"), Guest("stream")
    await edge.join(known, "known")
    await edge.join(unknown, "unknown")
    await edge.publisher.publish([item("1", "1", channel="known")])
    await until_read(known, "1")
    redis_server.kill()
    redis_server.restart(keep_data=True)
    await wait_until(lambda: unknown.told_missed == ["unknown"], "the bus is back")
    await wait_until(lambda: edge.store.health().up, "commands are answered again")
    await edge.publisher.publish([item("2", "2", "1", channel="known"), item("x", channel="unknown")])
    await until_read(known, "1", "2")
    await until_read(unknown, "x")
    assert known.told_missed == []


async def test_without_redis_a_subscription_waits_and_stands_when_redis_is_back(
    open_grip_edge: OpenGripEdge, redis_server: RedisServer, prefix: str
) -> None:
    edge = await open_grip_edge(redis_server.url, prefix, store_wait_s=0.3)
    redis_server.kill()
    guest = Guest()
    standing = edge.channels.join(guest, "room", ())
    assert standing is not None
    with pytest.raises(StoreUnavailable, match="1 of 1 items were not published"):
        await edge.publisher.publish([item("lost")])
    assert not standing.done()
    assert await edge.channels.last_id("room") is None
    redis_server.restart(keep_data=True)
    await asyncio.wait_for(asyncio.shield(standing), 30)
    await wait_until(lambda: edge.store.health().up, "commands are answered again")
    await edge.publisher.publish([item("x")])
    await until_read(guest, "x")
    assert edge.metrics.process.items_published["failed"].value == 1


# -- rate


async def test_deliveries_of_a_route_with_a_rate_are_paced_and_the_rest_dropped_and_told(
    edge: GripEdge, caplog: pytest.LogCaptureFixture
) -> None:
    edge.routes["slow"] = GripRouteSettings(message_rate=0.001, message_queue=10)
    slow, fast = Guest(route="slow"), Guest(route="fast")
    await edge.join(slow, "room")
    await edge.join(fast, "room")
    contents = [str(number) for number in range(40)]
    await edge.publisher.publish([item(content) for content in contents])
    await until_read(fast, *contents)
    assert slow.read == ["0"]
    assert edge.metrics.process.items_dropped["rate"].value == 29
    await wait_until(lambda: "route slow: 29 deliveries were dropped" in caplog.text, "the log says so")
    # A reload takes the rate away: what waits goes.
    edge.routes["slow"] = GripRouteSettings()
    edge.channels.reloaded()
    await until_read(slow, *contents[:11])


async def test_who_leaves_while_its_deliveries_wait_gets_none_of_them(edge: GripEdge) -> None:
    edge.routes["slow"] = GripRouteSettings(message_rate=20)
    leaves, stays = Guest(route="slow"), Guest(route="slow")
    await edge.join(leaves, "room")
    await edge.join(stays, "room")
    await edge.publisher.publish([item(str(number)) for number in range(10)])
    await wait_until(lambda: stays.read, "the first arrive")
    edge.channels.leave(leaves, "room")
    before = list(leaves.read)
    await wait_until(lambda: len(stays.read) == 10, "all arrive")
    assert leaves.read == before


# -- counting receivers


async def test_receivers_over_all_edges_are_counted_before_they_are_served(edge: GripEdge, other: GripEdge) -> None:
    members = [(edge, Guest("socket")), (edge, Guest("stream")), (other, Guest("socket")), (other, Guest("response"))]
    for where, guest in members:
        await where.join(guest, "room")
    poll = members[3][1]
    poll.on_delivery = lambda: other.channels.leave(poll, "room")
    sockets_only = Item("room", "7", socket=SocketFormat(content="x"))
    results = await edge.publisher.publish(
        [item("all"), sockets_only, sockets_only, item("x", channel="nobody")], count=True
    )
    assert [(result.channel, result.receivers) for result in results] == [
        ("room", 4),
        ("room", 2),
        ("room", 0),
        ("nobody", 0),
    ]
    assert [result.duplicate for result in results] == [False, False, True, False]
    assert [result.receivers for result in await edge.publisher.publish([item("uncounted")])] == [None]


async def test_an_edge_that_does_not_answer_costs_a_second_not_the_publication(edge: GripEdge, other: GripEdge) -> None:
    guest = Guest()
    await edge.join(guest, "room")
    await edge.store.renew("an edge that has just died", 60_000, {})
    (result,) = await edge.publisher.publish([item("x")], count=True)
    assert result.receivers == 1
    await until_read(guest, "x")


async def test_a_thousand_items_of_one_call_arrive_in_order(edge: GripEdge, other: GripEdge) -> None:
    guest = Guest("stream")
    await other.join(guest, "room")
    await edge.publisher.publish([item(str(number)) for number in range(1_200)])
    await until_read(guest, *(str(number) for number in range(1_200)))

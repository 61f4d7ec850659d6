"""What answers mean, and which items a hold takes."""

from __future__ import annotations

import pytest

from edge.model.grip_hold import (
    Places,
    Plan,
    Verdict,
    content_filters,
    exposed_headers,
    flaw_of,
    hold_ms,
    keep_alive_ms,
    plan_of,
    published_headers,
)
from edge.protocol.grip.instruct import HeldChannel, Instruct, Link
from edge.protocol.grip.items import Item, ResponseFormat

LINK = Link("/next")


@pytest.mark.parametrize(
    ("instruct", "plan"),
    [
        (Instruct(), Plan.GIVE),
        (Instruct(gone=LINK), Plan.GIVE),
        (Instruct(next=LINK), Plan.CHAIN),
        (Instruct(hold="stream"), Plan.STREAM),
        (Instruct(hold="stream", next=LINK), Plan.STREAM),
        (Instruct(hold="response", next=LINK), Plan.RESPONSE),
    ],
)
def test_an_answer_is_passed_on_held_or_continued(instruct: Instruct, plan: Plan) -> None:
    assert plan_of(instruct) is plan


def test_ids_on_a_stream_need_a_next_link() -> None:
    channels = [HeldChannel("a"), HeldChannel("b", prev_id="1")]
    assert "'b'" in (flaw_of(Instruct(hold="stream", channels=channels)) or "")
    assert flaw_of(Instruct(hold="stream", channels=channels, next=LINK)) is None
    assert flaw_of(Instruct(hold="response", channels=channels)) is None
    assert flaw_of(Instruct(hold="stream", channels=channels[:1])) is None


def test_a_new_instruction_changes_only_what_it_says() -> None:
    places = Places("p-", ["always"])
    first = places.replace([HeldChannel("a"), HeldChannel("b", filters=["skip-self"])], 0)
    assert first.joined == [("p-a", ()), ("p-b", ["skip-self"])]
    assert first.left == []
    second = places.replace([HeldChannel("a"), HeldChannel("b"), HeldChannel("c")], 0)
    assert second.joined == [("p-b", ()), ("p-c", ())]
    third = places.replace([HeldChannel("c", prev_id="9")], 0)
    assert (third.joined, third.left) == ([], ["p-a", "p-b"])
    assert list(places) == ["always", "p-c"]
    assert places.last_ids() == [("c", "9")]


def test_subscriptions_past_the_limit_are_left_out() -> None:
    places = Places("", [])
    change = places.replace([HeldChannel(str(number)) for number in range(25)], 20)
    assert (len(places), change.dropped) == (20, 5)


def test_items_are_taken_in_sequence_where_there_are_ids() -> None:
    places = Places("", [])
    places.replace([HeldChannel("a", prev_id="1"), HeldChannel("b")], 0)
    assert places.judge(Item("b", id="7", prev_id="4")) is Verdict.TAKE
    assert places.judge(Item("a", id="3", prev_id="2")) is Verdict.GAP
    assert places.judge(Item("a")) is Verdict.GAP
    assert places.judge(Item("a", id="1", prev_id="0")) is Verdict.SEEN
    second = Item("a", id="2", prev_id="1")
    assert places.judge(second) is Verdict.TAKE
    places.took(second)
    assert places.last_ids() == [("a", "2")]
    assert places.judge(Item("a", id="3", prev_id="2")) is Verdict.TAKE
    last = Item("a", prev_id="2")
    places.took(last)
    assert places.judge(Item("a", id="9", prev_id="8")) is Verdict.TAKE


def test_an_id_that_does_not_fit_is_asked_about_once() -> None:
    places = Places("", [])
    places.replace([HeldChannel("a", prev_id="7")], 0)
    assert not places.behind("a", None)
    assert not places.behind("a", "7")
    assert places.behind("a", "6")
    places.replace([HeldChannel("a", prev_id="7")], 0)
    assert not places.behind("a", "6")
    assert places.behind("a", "8")
    assert not places.behind("unknown", "8")


def test_all_channels_have_to_be_active() -> None:
    places = Places("", ["a", "b"])
    assert not places.all_active("a")
    assert not places.all_active("a")
    assert places.all_active("b")
    assert not places.all_active("b")


def test_timers_have_their_minimum_and_their_jitter() -> None:
    assert hold_ms(1) == 5_000
    assert hold_ms(55) == 55_000
    assert keep_alive_ms(20, 0.0) == 20_000
    assert keep_alive_ms(20, 0.5) == 19_500
    assert keep_alive_ms(0.2, 0.0) == 1_000


def test_a_published_answer_inherits_the_headers_it_does_not_bring() -> None:
    held = [("Content-Type", "text/plain"), ("X-A", "1"), ("X-B", "2"), ("Content-Length", "9")]
    pushed = ResponseFormat(headers=[("content-type", "a/b"), ("X-C", "3"), ("Grip-Whatever", "x")])
    assert published_headers(held, pushed) == [("X-A", "1"), ("X-B", "2"), ("content-type", "a/b"), ("X-C", "3")]
    exposing = ResponseFormat(headers=[("X-C", "3"), ("Grip-Expose-Headers", "X-A, x-c")])
    assert published_headers(held, exposing) == [("X-A", "1"), ("X-C", "3")]


def test_only_exposed_headers_are_shown() -> None:
    headers = [("X-A", "1"), ("Grip-Hold", "stream"), ("X-B", "2")]
    assert exposed_headers(headers, None) == [("X-A", "1"), ("X-B", "2")]
    assert exposed_headers(headers, ["x-b"]) == [("X-B", "2")]


def test_filters_of_all_channels_apply_to_the_answer_itself_once() -> None:
    channels = [HeldChannel("a", filters=["build-id", "skip-self"]), HeldChannel("b", filters=["build-id"])]
    assert content_filters(Instruct(channels=channels)) == ["build-id", "skip-self"]

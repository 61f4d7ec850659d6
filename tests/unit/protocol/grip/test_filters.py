"""Subscription filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.grip.filters import Channels, Dropped, FormatKind, Sieve, apply_to_body, apply_to_response
from edge.protocol.grip.items import Item, ResponseFormat, SocketFormat, StreamFormat
from tests.unit.protocol.grip.generated import ITEMS

META = {"user": "alice", "id_format": "room:%(room)s,%%x:%(x)s"}
IDS = {"room": "5", "x": "7"}


def apply(
    names: Sequence[str], item: Item, kind: FormatKind, meta: Mapping[str, str], channels: Channels, prefix: str = ""
) -> Item | Dropped:
    """What one member gets of an item."""
    return Sieve(item, kind).apply(names, meta, channels, prefix)


def streamed(content: str, filters: Sequence[str] | None = None, **meta: str) -> Item:
    return Item("room", "6", "5", meta=meta, stream=StreamFormat(content=content.encode(), filters=filters))


def got(
    names: Sequence[str], item: Item, meta: Mapping[str, str] = META, ids: Mapping[str, str | None] = IDS
) -> str | Dropped:
    """What a member of a stream gets, as text."""
    result = apply(names, item, "stream", meta, ids)
    if isinstance(result, Dropped):
        return result
    assert result.stream is not None
    return result.stream.content.decode()


def test_without_filters_an_item_is_what_it_was() -> None:
    item = streamed("100 %I", sender="alice")
    for names in ((), ("skip-self-ish", "http-check")):
        assert apply(names, item, "stream", META, IDS) is item


@pytest.mark.parametrize(
    ("name", "item_meta", "dropped"),
    [
        ("skip-self", {"sender": "alice"}, True),
        ("skip-self", {"sender": "bob"}, False),
        ("skip-self", {}, False),
        ("skip-users", {"skip_users": "bob, alice ,carol"}, True),
        ("skip-users", {"skip_users": "alice2"}, False),
        ("skip-users", {"skip_users": ""}, False),
        ("skip-users", {}, False),
        ("require-sub", {"require_sub": "x"}, False),
        ("require-sub", {"require_sub": "y"}, True),
        ("require-sub", {"require_sub": ""}, False),
        ("require-sub", {}, False),
    ],
)
def test_filters_that_drop(name: str, item_meta: dict[str, str], dropped: bool) -> None:
    item = streamed("x", **item_meta)
    assert apply((name,), item, "stream", META, IDS) == (Dropped() if dropped else item)
    assert apply((name,), item, "stream", META, set(IDS)) == (Dropped() if dropped else item)


def test_who_has_no_name_skips_nothing() -> None:
    for item in (streamed("x", sender=""), streamed("x", skip_users=",,")):
        for meta in ({}, {"user": ""}):
            assert apply(("skip-self", "skip-users"), item, "stream", meta, IDS) is item


def test_they_drop_what_cannot_be_rendered_too() -> None:
    item = streamed("%(nobody)s", sender="alice")
    assert apply(("var-subst", "skip-self"), item, "stream", META, IDS) == Dropped()


@pytest.mark.parametrize(
    ("content", "made"),
    [
        ("id: %I\n", "id: room:6,%x:7\n"),
        ("id: %(a:1)I 100%% %(a\\)b\\\\)I", "id: a:1 100% a)b\\"),
        ("%()I", "room:6,%x:7"),
        ("plain é", "plain é"),
    ],
)
def test_build_id(content: str, made: str) -> None:
    """Its own id is that of the item: who has got it continues behind it."""
    assert got(("build-id",), streamed(content)) == made


def test_ids_in_hex() -> None:
    meta = {"id_format": "%(room)s", "id_encoding": "hex"}
    assert got(("build-id",), streamed("%I %(é)I"), meta) == "36 c3a9"


def test_ids_know_channels_with_the_prefix_of_the_route_and_without() -> None:
    item = Item("p-room", "6", stream=StreamFormat(content=b"%I"))
    for form in ("%(room)s", "%(p-room)s"):
        result = apply(("build-id",), item, "stream", {"id_format": form}, {"p-room": "5"}, prefix="p-")
        assert isinstance(result, Item)
        assert result.stream == StreamFormat(content=b"6")


def test_a_channel_without_ids_stays_without() -> None:
    result = got(("build-id",), streamed("%I"), {"id_format": "%(room)s"}, {"room": None})
    assert result == Dropped("filter error: build-id: failed to render ID: no such variable 'room'")


@pytest.mark.parametrize(
    ("names", "content", "meta", "problem"),
    [
        (("build-id",), "x", {}, "build-id: no sub meta 'id_format'"),
        (("build-id",), "x", {"id_format": "", "id_encoding": "b64"}, "build-id: unsupported encoding: b64"),
        (("build-id",), "%s", META, "build-id: unknown directive 's'"),
        (("build-id",), "%", META, "no directive after '%' at position 0"),
        (("build-id",), "ab%(c", META, "no directive after '%' at position 2"),
        (("build-id",), "%(c)", META, "no directive after '%' at position 0"),
        (("build-id",), "%5", META, "no directive after '%' at position 0"),
        (("build-id",), "%I", {"id_format": "%(y)s"}, "build-id: failed to render ID: no such variable 'y'"),
        (("build-id",), "%I", {"id_format": "%I"}, "build-id: failed to render ID: unknown directive 'I'"),
        (("var-subst",), "%(nobody)s", META, "var-subst: no such variable 'nobody'"),
        (("var-subst",), "%s", META, "var-subst: directive 's' requires argument"),
        (("var-subst",), "%I", META, "var-subst: unknown directive 'I'"),
    ],
)
def test_what_cannot_be_rendered_is_dropped_with_the_reason(
    names: Sequence[str], content: str, meta: dict[str, str], problem: str
) -> None:
    assert got(names, streamed(content), meta) == Dropped(f"filter error: {problem}")


def test_var_subst_and_the_order_of_content_filters() -> None:
    assert got(("var-subst",), streamed("hello %(user)s, 100%%")) == "hello alice, 100%"
    assert got(("var-subst", "build-id"), streamed("%(user)s %%I")) == "alice room:6,%x:7"
    assert got(("build-id", "var-subst"), streamed("%%(user)s %I"), {**META, "id_format": "1"}) == "alice 1"


def test_content_filters_must_be_those_the_publisher_assumed() -> None:
    names = ("skip-self", "build-id")
    assert got(names, streamed("%I", ["build-id"])) == "room:6,%x:7"
    for assumed in ([], ["var-subst"], ["build-id", "var-subst"]):
        problem = f"content filter mismatch: subscription=build-id message={','.join(assumed)}"
        assert got(names, streamed("%I", assumed)) == Dropped(problem)
    assert got((), streamed("%I", ["build-id"])) == Dropped("content filter mismatch: subscription= message=build-id")
    assert got((), streamed("%I", [])) == "%I"


def test_sockets_have_text_binary_and_control_frames() -> None:
    def socket(form: SocketFormat) -> SocketFormat | Dropped | None:
        result = apply(("var-subst",), Item("room", socket=form), "socket", {"user": "é", "long": "x" * 200}, {"room"})
        return result if isinstance(result, Dropped) else result.socket

    assert socket(SocketFormat(content="%(user)s")) == SocketFormat(content="é")
    assert socket(SocketFormat(kind="binary", content=b"\xff%(user)s")) == SocketFormat(
        kind="binary", content=b"\xff\xc3\xa9"
    )
    assert socket(SocketFormat(kind="ping", content=b"%(user)s")) == SocketFormat(kind="ping", content=b"\xc3\xa9")
    assert socket(SocketFormat(kind="ping", content=b"%(long)s")) == Dropped(
        "filter error: what they make is too long for a ping"
    )
    close = SocketFormat("close", reason="%(nobody)s")
    assert socket(close) == close


def test_responses_have_bodies() -> None:
    item = Item("room", "6", response=ResponseFormat(code=201, body=b"%I"))
    result = apply(("build-id",), item, "response", META, IDS)
    assert isinstance(result, Item)
    assert result.response == ResponseFormat(code=201, body=b"room:6,%x:7")


def test_a_patch_is_filled_in_when_it_has_been_applied() -> None:
    item = Item("room", "6", response=ResponseFormat(patch=({"op": "add", "path": "/%", "value": 1},)))
    assert apply(("build-id",), item, "response", META, IDS) is item
    assert apply_to_body(("skip-self", "build-id"), b'{"%%": "%I"}', META, IDS) == b'{"%": "room:5,%x:7"}'


@pytest.mark.parametrize(
    ("form", "kind"), [(StreamFormat("hint"), "stream"), (StreamFormat("close"), "stream"), (None, "socket")]
)
def test_what_has_no_content_needs_no_rendering(form: StreamFormat | None, kind: FormatKind) -> None:
    item = Item("room", stream=form)
    assert apply(("build-id",), item, kind, {}, {}) == (item if form else Dropped())


def test_the_answer_of_a_backend_names_its_ids_itself() -> None:
    assert apply_to_response(("skip-users", "build-id"), b"id: %(a:1)I 100%%", {"id_format": "x"}) == b"id: a:1 100%"
    assert apply_to_response(("var-subst",), b"%(user)s %", META) == b"%(user)s %"
    with pytest.raises(WireError, match="no ID specified"):
        apply_to_response(("build-id",), b"%I", META)


@given(st.binary(max_size=40), st.text("%()Is\\a", max_size=20))
def test_escaped_content_comes_out_as_it_was(noise: bytes, text: str) -> None:
    for content in (noise, text.encode()):
        assert apply_to_response(("build-id",), content.replace(b"%", b"%%"), {"id_format": ""}) == content


def test_members_with_the_same_ids_get_the_same_object() -> None:
    sieve = Sieve(streamed("%I %%(user)s"), "stream")
    first = sieve.apply(("build-id",), META, IDS)
    assert sieve.apply(["build-id"], {**META, "user": "bob"}, dict(IDS)) is first
    assert sieve.apply(("build-id",), META, {**IDS, "x": "8"}) is not first
    assert sieve.apply(("build-id",), {**META, "id_encoding": "hex"}, IDS) is not first
    assert sieve.apply((), META, IDS) is sieve.apply(("skip-self",), META, IDS)


def test_members_with_the_same_metadata_get_the_same_object() -> None:
    sieve = Sieve(streamed("%%I %(user)s"), "stream")
    names = ("var-subst", "build-id")
    alice = sieve.apply(names, META, IDS)
    assert isinstance(alice, Item)
    assert sieve.apply(names, dict(META), IDS) is alice
    assert sieve.apply(names, {**META, "user": "bob"}, IDS) != alice


def test_an_empty_id_is_one() -> None:
    assert got(("build-id",), streamed("<%I>"), {"id_format": ""}) == "<>"


@given(
    ITEMS,
    st.lists(st.sampled_from(("skip-self", "skip-users", "require-sub", "build-id", "var-subst", "x")), max_size=4),
    st.dictionaries(st.sampled_from(("user", "id_format", "id_encoding")), st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.text(max_size=3)), max_size=2),
    st.sampled_from(("socket", "stream", "response")),
)
def test_whatever_comes_is_delivered_or_dropped(
    item: Item, names: list[str], meta: dict[str, str], ids: dict[str, str | None], kind: FormatKind
) -> None:
    assert isinstance(apply(names, item, kind, meta, ids), Item | Dropped)

"""A link's options: what the order says, what is stored of it, and what older and newer edges make of that."""

from __future__ import annotations

from dataclasses import fields

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model.link_options import LinkOptions
from edge.protocol.callbacks.actions import AskBackend, OnConnect, Routing, XmppConnect
from edge.protocol.xmpp.credentials import Account

NOW = 1_700_000_000_000
names = st.lists(st.text(max_size=9), max_size=3).map(tuple)
options = st.builds(
    LinkOptions,
    resource=st.text(max_size=9),
    roster=st.booleans(),
    presence=st.text(max_size=9),
    carbons=st.booleans(),
    stanzas=names,
    coalesce=names,
    keep_ms=st.integers(0, 2**40),
    sent=st.booleans(),
    detached=st.booleans(),
    asks=st.booleans(),
    begun_at=st.integers(0, 2**50),
)


@given(options)
def test_options_read_back_as_they_were_stored(written: LinkOptions) -> None:
    stored = msgpack.unpackb(msgpack.packb(written.to_stored()))
    assert LinkOptions.from_stored(stored) == written
    assert set(stored) == {each.name for each in fields(LinkOptions)}


@given(options, st.sets(st.sampled_from([each.name for each in fields(LinkOptions)])))
def test_what_an_older_edge_did_not_store_has_its_default(written: LinkOptions, missing: set[str]) -> None:
    stored = {name: value for name, value in written.to_stored().items() if name not in missing}
    read, default = LinkOptions.from_stored(stored), LinkOptions()
    for name in LinkOptions.__dataclass_fields__:
        assert getattr(read, name) == getattr(default if name in missing else written, name)


def test_what_a_newer_edge_stored_besides_is_passed_over() -> None:
    assert LinkOptions.from_stored({"roster": True, "of a newer edge": {"a": 1}}) == LinkOptions(roster=True)
    assert LinkOptions.from_stored({}) == LinkOptions()


def test_an_order_says_what_the_link_will_be() -> None:
    order = XmppConnect(
        "u42@chat.example",
        Account("", "s3cret"),
        resource="edge",
        on_connect=OnConnect(roster=True, presence="<presence/>", carbons=False),
        routing=Routing(stanzas=("iq",), coalesce=()),
        keep_after_detach_s=1.5,
        sent=True,
        detached=True,
    )
    made = LinkOptions.of(order, NOW)
    assert made == LinkOptions("edge", True, "<presence/>", False, ("iq",), (), 1_500, True, True, False, NOW)
    assert "s3cret" not in repr(made)
    assert "s3cret" not in repr(made.to_stored())


@pytest.mark.parametrize(("auth", "asks"), [(AskBackend(), True), (Account("", "x"), False), (None, False)])
def test_credentials_are_asked_for_when_the_order_says_so(auth: AskBackend | Account | None, asks: bool) -> None:
    assert LinkOptions.of(XmppConnect("u42@chat.example", auth), NOW).asks is asks


def test_an_order_that_says_nothing_leaves_the_defaults() -> None:
    made = LinkOptions.of(XmppConnect("u42@chat.example", None), NOW)
    assert made == LinkOptions(begun_at=NOW)

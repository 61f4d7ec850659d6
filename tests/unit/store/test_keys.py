"""Keys: what one script touches shares a slot, and different names never share a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from edge.store.keys import Keys

NAMES = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12) | st.text("{}%7D:", max_size=8)


@given(NAMES, NAMES)
def test_all_keys_of_one_name_share_a_slot(name: str, other: str) -> None:
    keys = Keys()
    channel = (keys.channel(name), keys.history(name), keys.bus(name), keys.publication(name, other))
    session = (keys.session(name), keys.action(name, other))
    link = (*keys.link(name), keys.link_fence(name), keys.link_action(name, other))
    for group in (channel, session, link, (keys.edges, keys.info, keys.claims, keys.buried)):
        assert len({key_slot(key.encode()) for key in group}) == 1


@given(NAMES, NAMES, NAMES, NAMES)
def test_different_names_have_different_keys(a: str, a_id: str, b: str, b_id: str) -> None:
    keys = Keys()
    if (a, a_id) != (b, b_id):
        assert keys.publication(a, a_id) != keys.publication(b, b_id)
        assert keys.action(a, a_id) != keys.action(b, b_id)
        assert keys.link_action(a, a_id) != keys.link_action(b, b_id)


def test_a_prefix_may_not_choose_the_slot() -> None:
    with pytest.raises(ValueError, match="braces"):
        Keys("{x}:")

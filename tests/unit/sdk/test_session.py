"""Orders and state: what is refused at the call, and what changes are noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_sdk import ActionError, Session, StateError, actions
from backend_sdk.state import State
from backend_sdk.values import check_value


def session(opening: bool = False, **state: Any) -> Session:
    return Session("s1", None, "r", state, 1, opening)


BAD: list[tuple[str, Callable[[Session], None], str]] = [
    ("payload of another type", lambda s: s.send(5), "payload"),  # type: ignore[arg-type]
    ("a lone surrogate", lambda s: s.send("\ud800"), "payload"),
    ("a channel that is empty", lambda s: s.subscribe(""), "channel"),
    ("a channel of 256 characters", lambda s: s.publish("x" * 256, "x"), "channel"),
    ("a channel with NUL", lambda s: s.unsubscribe("a\0"), "channel"),
    ("since without epoch", lambda s: s.subscribe("c", (1,)), "since"),  # type: ignore[arg-type]
    ("since with an empty epoch", lambda s: s.subscribe("c", (1, "")), "since.epoch"),
    ("a publish id that is empty", lambda s: s.publish("c", "x", ""), "id"),
    ("except_self that is no truth value", lambda s: s.publish("c", "x", except_self=1), "except_self"),  # type: ignore[arg-type]
    ("close code 1006", lambda s: s.close(1006), "code"),
    ("a reason of 124 bytes", lambda s: s.close(1000, "x" * 124), "reason"),
    ("a user that is no string", lambda s: s.identify(5), "user"),  # type: ignore[arg-type]
    ("a delay in seconds", lambda s: s.timer("t", 1.5), "after_ms"),  # type: ignore[arg-type]
    ("a delay of eleven years", lambda s: s.timer("t", 11 * 366 * 86_400_000), "after_ms"),
    ("timer data that is no JSON", lambda s: s.timer("t", 1, {"a": [b"x"]}), "data.a[0]"),
    ("a timer without name", lambda s: s.cancel_timer(""), "name"),
    ("a release that is empty", lambda s: s.pin(""), "release"),
    ("another session without id", lambda s: s.to("").send("x"), "session"),
    ("accept outside open", lambda s: s.accept(), "accept"),
    ("reject outside open", lambda s: s.reject(), "reject"),
]


@pytest.mark.parametrize(("order", "field"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_bad_order_is_refused_at_the_call_and_leaves_nothing(order: Callable[[Session], None], field: str) -> None:
    here = session()
    with pytest.raises(ActionError) as refusal:
        order(here)
    assert refusal.value.field == field
    assert here.finish() == ([], {})


def test_open_is_answered_once_and_first() -> None:
    here = session(opening=True)
    here.subscribe("c")
    here.accept("v1")
    with pytest.raises(ActionError, match="accept was ordered before"):
        here.reject(403)
    with pytest.raises(ActionError, match="subprotocol"):
        session(opening=True).accept("a b")
    with pytest.raises(ActionError, match=r"headers\[0\]"):
        session(opening=True).accept(None, {"X": "a\nb"})
    assert here.finish()[0] == [{"type": "accept", "subprotocol": "v1"}, {"type": "subscribe", "channel": "c"}]


def test_orders_stand_as_on_the_wire() -> None:
    here = session()
    here.send(b"x", id="k")
    here.send_json({"ä": 1})
    here.to("s2").publish("c", "x", "id", except_self=True)
    assert here.finish()[0] == [
        {"type": "send", "data": b"x", "id": "k"},
        {"type": "send", "text": '{"ä":1}'},
        {"type": "publish", "channel": "c", "text": "x", "except_self": True, "session": "s2", "id": "id"},
    ]
    with pytest.raises(ValueError, match="Out of range"):
        session().send_json(float("nan"))
    assert actions.send("x", session="s2") == {"type": "send", "text": "x", "session": "s2"}


def test_state_tells_what_was_set_and_unset() -> None:
    state = State({"a": 1, "b": 2, "c": 3})
    state["a"] = 1  # the same again
    state["b"] = 2.0  # equal, but another type
    del state["c"]
    state["d"] = None
    assert (dict(state), len(state), "d" in state, "c" in state) == ({"a": 1, "b": 2.0, "d": None}, 3, True, False)
    assert state.finish() == {"set": {"b": 2.0, "d": None}, "unset": ["c"]}


def test_state_notices_changes_inside() -> None:
    state = State({"seen": ["a"], "read": {"x": [1]}, "untouched": [1]})
    state["seen"].append("b")
    assert state["read"]["x"] == [1]
    state["new"] = []
    state["new"].append(1)
    assert state.finish() == {"set": {"seen": ["a", "b"], "new": [1]}}


def test_state_notices_a_change_of_type_inside() -> None:
    state = State({"flags": [1]})
    state["flags"][0] = True
    assert state.finish() == {"set": {"flags": [True]}}


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({1}, "is a set"),
        ((1,), "is a tuple"),
        (b"x", "is a bytes"),
        (2**64, "beyond 64 bits"),
        (float("inf"), "is inf"),
        ("\ud800", "lone surrogate"),
        ([{"a": object()}], r"state\['k'\]\[0\]\.a: is a object"),
        ({1: 2}, "keys must be strings"),
    ],
)
def test_state_refuses_what_json_cannot_hold(value: Any, place: str) -> None:
    with pytest.raises(StateError, match=place):
        State({})["k"] = value
    lent = State({"k": []})
    lent["k"].append(value)
    with pytest.raises(StateError, match=r"state\['k'\]\[0\]"):
        lent.finish()


def test_state_refuses_bad_keys_and_endless_nesting() -> None:
    for key in ("", "x" * 256, "a\0", 5):
        with pytest.raises(StateError, match="keys must be"):
            State({})[key] = 1  # type: ignore[index]
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(StateError, match="nested deeper"):
        State({})["k"] = circle
    with pytest.raises(KeyError):
        del State({})["k"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=12,
)
keys = st.sampled_from(["a", "b", "c", "d"])


@given(before=st.dictionaries(keys, json_values), changes=st.lists(st.tuples(keys, st.none() | st.tuples(json_values))))
def test_the_difference_applied_to_before_gives_after(
    before: dict[str, Any], changes: list[tuple[str, tuple[Any] | None]]
) -> None:
    state = State(dict(before))
    for key, change in changes:
        if change is None:
            state.pop(key, None)
        else:
            check_value(change[0], key)
            state[key] = change[0]
    delta = state.finish()
    after = {**before, **delta.get("set", {})}
    for key in delta.get("unset", []):
        after.pop(key, None)
    assert after == dict(state)
    assert not set(delta.get("set", {})) & set(delta.get("unset", []))

"""Cohort rules: one text form, and what of a handshake meets them."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FieldError
from edge.model.cohort import Rule, Subject, fraction, match_handshake, meets, parse_rules


def token(claims: object) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{body}.c2ln"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("header:X-Beta", "header:x-beta"),
        ("header:X-Beta=Yes", "header:x-beta=Yes"),
        ("cookie:beta=", "cookie:beta="),
        ("query:v=a=b", "query:v=a=b"),
        ("claim:plan=gold", "claim:plan=gold"),
        ("user:bob, ann,bob", "user:ann,bob"),
        ("percent:5%", "percent:5"),
        ("percent:0.25", "percent:0.25"),
    ],
)
def test_a_rule_has_one_text_form(text: str, key: str) -> None:
    rule = Rule.parse(text)
    assert rule.key == key
    assert Rule.parse(key) == rule


@pytest.mark.parametrize(
    "text",
    ["", "beta", "header:", "header:a b=1", "header:=1", "user: , ", "percent:x", "percent:101", "percent:-1",
     "percent:nan", "ip:1.2.3.4", "user:" + "a" * 5_000, "query:a\n=1"],
)  # fmt: skip
def test_what_is_no_rule_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(FieldError) as refused:
        Rule.parse(text)
    assert refused.value.field == "rules"


def test_rules_are_kept_once_each_and_bounded() -> None:
    assert [rule.key for rule in parse_rules(["percent:5", "user:a", "percent:5.0"])] == ["percent:5", "user:a"]
    with pytest.raises(FieldError):
        parse_rules([f"user:{n}" for n in range(65)])


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        ("header:X-BETA=1", True),
        ("header:x-beta", True),
        ("header:x-beta=2", False),
        ("header:x-other", False),
        ("cookie:beta=on", True),
        ("cookie:beta", True),
        ("cookie:gamma", False),
        ("query:v=2", True),
        ("query:v=3", False),
        ("query:empty", True),
        ("claim:plan=gold", True),
        ("claim:groups=staff", True),
        ("claim:level=3", True),
        ("claim:trial=false", True),
        ("claim:plan=tin", False),
        ("claim:nothing", False),
    ],
)
def test_a_handshake_meets_a_rule(rule: str, matches: bool) -> None:
    claims = {"plan": "gold", "groups": ["users", "staff"], "level": 3, "trial": False}
    headers = [
        ("X-Beta", " 1 "),
        ("Cookie", "a=b; beta=on"),
        ("Authorization", f"Bearer {token(claims)}"),
    ]
    found = match_handshake(parse_rules([rule]), headers, "v=1&v=2&empty=")
    assert (found == {Rule.parse(rule).key}) == matches


def test_a_claim_may_come_in_the_query_because_browsers_cannot_send_headers() -> None:
    for name in ("token", "access_token"):
        assert match_handshake(parse_rules(["claim:plan=gold"]), [], f"{name}={token({'plan': 'gold'})}")


@given(st.text(), st.text())
def test_whatever_a_client_sends_matching_does_not_fail(value: str, query: str) -> None:
    rules = parse_rules(["header:x", "cookie:c", "query:q", "claim:c"])
    headers = [("authorization", f"Bearer {value}"), ("cookie", value), ("authorization", f"Bearer a.{value}.c")]
    assert match_handshake(rules, headers, query) <= {"header:x", "cookie:c", "query:q", "claim:c"}


def test_users_and_percentages_need_no_handshake() -> None:
    assert match_handshake(parse_rules(["user:ann", "percent:100"]), [], "") == frozenset()
    assert meets(Rule.parse("user:ann"), Subject("s", "ann"), "a")
    assert not meets(Rule.parse("user:ann"), Subject("s"), "a")
    assert meets(Rule.parse("percent:100"), Subject("s"), "a")
    assert not meets(Rule.parse("percent:0"), Subject("s"), "a")


@given(st.text(), st.text())
def test_fractions_are_below_one_and_always_the_same(id: str, salt: str) -> None:
    assert 0 <= fraction(id, salt) < 1
    assert fraction(id, salt) == fraction(id, salt)

"""Strategies for actions: all there are, as the checker makes them of what backends write."""

from __future__ import annotations

from typing import Any, get_args

from hypothesis import strategies as st

from edge.protocol.callbacks import actions as a
from edge.protocol.xmpp.credentials import Account, Certificate, Credentials, ScramKeys, Token
from edge.protocol.xmpp.outgoing import (
    ChatState,
    MessageFields,
    MessageType,
    PresenceFields,
    PresenceType,
    Show,
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)
sessions = names.filter(lambda name: not a.is_link(name))
links = names.map(lambda name: a.LINK_PREFIX + name)
secrets = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\x01"), min_size=1, max_size=20)
payloads = text | st.binary(max_size=20)
headers = st.lists(st.tuples(st.sampled_from(["X-A", "Cookie"]), st.sampled_from(["", "a=1"])), max_size=2).map(tuple)


def one_of(kind: object) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(kind))


scram_keys = st.sampled_from([("SHA-256", 32), ("SHA-1", 20)]).flatmap(
    lambda hash: st.builds(
        ScramKeys,
        st.just(hash[0]),
        st.binary(min_size=1, max_size=20),
        st.integers(1, 1_000_000),
        st.binary(min_size=hash[1], max_size=hash[1]),
        st.binary(min_size=hash[1], max_size=hash[1]),
    )
)


def credentials(usernames: st.SearchStrategy[str], address: str) -> st.SearchStrategy[Credentials]:
    return (
        st.builds(Account, usernames, secrets)
        | st.builds(Account, usernames, st.none(), st.tuples(scram_keys))
        | st.builds(Token, usernames, secrets)
        | st.just(Certificate(address))
    )


messages = st.builds(
    MessageFields,
    text,
    one_of(MessageType),
    st.none() | text,
    st.none() | text,
    st.none() | text,
    st.none() | text,
    st.none() | one_of(ChatState),
    st.none() | st.just("request"),
    xml=text,
    sender=st.none() | text,
)
receipts = st.builds(MessageFields, text, receipt=st.just("received"), receipt_id=text)
presences = st.builds(
    PresenceFields,
    st.none() | text,
    one_of(PresenceType),
    st.none() | text,
    st.none() | one_of(Show),
    st.none() | text,
    st.integers(-128, 127),
    text,
    st.none() | text,
)


def _some(*words: str) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(words), unique=True).map(tuple)


connects = st.builds(
    a.XmppConnect,
    st.just("u@chat.example"),
    st.none() | credentials(secrets, "u@chat.example") | st.just(a.AskBackend()),
    st.sampled_from(["", "edge-7", "größer/als"]),
    st.builds(a.OnConnect, st.booleans(), st.none() | text, st.booleans()),
    st.builds(a.Routing, _some("message", "presence", "iq"), _some("presence", "chatstate")),
    st.none() | st.lists(sessions, max_size=3).map(tuple),
    st.floats(0, 86_400),
    st.booleans(),
    st.booleans(),
    session=st.none() | links,
    id=st.none() | names,
)


def _aimed(made: type[Any], *fields: st.SearchStrategy[Any], at: Any = links, **more: Any) -> st.SearchStrategy[Any]:
    return st.builds(made, *fields, session=st.none() | at, id=st.none() | names, **more)


link_actions: dict[type, st.SearchStrategy[Any]] = {
    a.XmppConnect: connects,
    a.XmppSend: _aimed(a.XmppSend, messages | receipts | text),
    a.XmppPresence: _aimed(a.XmppPresence, presences | text),
    a.XmppIq: _aimed(
        a.XmppIq,
        text,
        st.none() | text,
        st.sampled_from(["get", "set"]),
        st.floats(1, 600) | st.just(30.0),
        st.none() | text,
    ),
    a.XmppIqReply: _aimed(a.XmppIqReply, st.integers(1, 2**63 - 1), text)
    | _aimed(
        a.XmppIqReply,
        st.integers(1, 2**63 - 1),
        condition=st.just("item-not-found"),
        error_type=st.sampled_from(["cancel", "wait"]),
        text=st.none() | text,
    ),
    a.XmppCredentials: _aimed(a.XmppCredentials, credentials(st.just("") | secrets, "")),
    a.XmppAttach: _aimed(a.XmppAttach, st.none() | sessions),
    a.XmppDetach: _aimed(a.XmppDetach, st.none() | sessions),
    a.XmppSuspend: _aimed(a.XmppSuspend),
    a.XmppDisconnect: _aimed(a.XmppDisconnect),
    a.XmppGet: _aimed(a.XmppGet),
}

session_actions: dict[type, st.SearchStrategy[Any]] = {
    a.Accept: _aimed(a.Accept, st.none() | st.just("chat.v1"), headers, at=names),
    a.Reject: _aimed(a.Reject, st.integers(400, 599), headers, text, at=names),
    a.Send: _aimed(a.Send, payloads, at=names),
    a.CloseSession: _aimed(a.CloseSession, st.sampled_from([1000, 4000]), text, at=names),
    a.Subscribe: _aimed(a.Subscribe, names, st.none() | st.tuples(st.integers(0, 2**63 - 1), names), at=names),
    a.Unsubscribe: _aimed(a.Unsubscribe, names, at=names),
    a.Publish: _aimed(a.Publish, names, payloads, st.booleans(), at=names),
    a.Identify: _aimed(a.Identify, st.none() | names, at=names),
    a.SetTimer: _aimed(a.SetTimer, names, st.integers(0, 10_000), st.none() | st.lists(text, max_size=2), at=names),
    a.CancelTimer: _aimed(a.CancelTimer, names, at=names),
    a.Pin: _aimed(a.Pin, st.none() | names, at=names),
}

all_actions = {**session_actions, **link_actions}

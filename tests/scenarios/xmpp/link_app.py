"""The backend of the scenarios with held links: notes every event, does as it is told, and answers contacts.

A client tells it what to order: JSON ``[[link, order, {argument: value}], …]`` calls these methods of `Link`. Of a
contact's message ``echo TEXT`` TEXT is sent back, of ``pass JID TEXT`` to that address; a component says it as whoever
was spoken to. ``poison`` makes the handler fail. Whoever asks by iq is answered, unless ``silence`` is in the request.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from backend_sdk import App, Link, Message, Open, Refused, Session, XmppCredentials, XmppIq, XmppIqResult, XmppMessage
from tests.scenarios.xmpp.holding import QUESTION
from tests.support.journal import Journal
from tests.support.xmpp import PASSWORD

app = App()
_journal = Journal.from_environment()


def _note(link: Link, event: Any) -> None:
    _journal.note(link=link.id, type=event.type, pid=os.getpid(), **asdict(event))


@app.on_open
async def welcome(session: Session, event: Open) -> None:
    session.send(session.id)


@app.on_message
async def obey(session: Session, event: Message) -> None:
    for link, order, arguments in event.json():
        to_account = order == "connect" and "@" in arguments["jid"]
        if to_account and not arguments.keys() & {"password", "scram", "token", "external", "callback"}:
            arguments["password"] = PASSWORD
        getattr(session.link(link), order)(**arguments)
    session.send("ordered")


@app.on_xmpp_message
async def hear(link: Link, event: XmppMessage) -> None:
    _note(link, event)
    ours = None if "@" in event.jid else event.stanza.to
    match (event.body or "").split(" ", 2):
        case ["poison"]:
            raise ValueError("this message cannot be handled")
        case ["echo", *words] if event.sender:
            link.send(event.sender, " ".join(words), sender=ours)
        case ["pass", jid, text]:
            link.send(jid, text, sender=ours)


@app.on_xmpp_iq
async def answer(link: Link, event: XmppIq) -> None:
    _note(link, event)
    if "silence" not in event.xml:
        link.reply(event, "<answer xmlns='urn:test'/>")


@app.on_xmpp_iq_result(QUESTION)
async def answered(link: Link, event: XmppIqResult) -> None:
    _note(link, event)
    link.state["answered"] = link.state.get("answered", 0) + 1


@app.on_xmpp_credentials
async def tell_credentials(link: Link, event: XmppCredentials) -> None:
    _note(link, event)
    link.give_credentials(password=PASSWORD)


for _hook in (
    app.on_xmpp_connected, app.on_xmpp_resumed, app.on_xmpp_presence, app.on_xmpp_roster, app.on_xmpp_iq_result,
    app.on_xmpp_sent, app.on_xmpp_send_failed, app.on_xmpp_reset, app.on_xmpp_caught_up, app.on_xmpp_detached,
    app.on_xmpp_disconnected, app.on_xmpp_auth_failed, app.on_xmpp_state, app.on_xmpp_release, app.on_xmpp_refused,
):  # fmt: skip
    _hook(_note)


@app.on_refused
async def refused(session: Session, event: Refused) -> None:
    _journal.note(session=session.id, type=event.type, **asdict(event))

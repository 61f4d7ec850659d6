"""What clients are told when a request of theirs cannot be answered by its backend."""

from __future__ import annotations

from dataclasses import dataclass

from edge.sessions.connection import ClientExchange


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of the edge's own. `text` is for people."""

    status: int
    reason: str
    text: str


BAD_GATEWAY = Refusal(502, "Bad Gateway", "Error while proxying to origin.")
GATEWAY_TIMEOUT = Refusal(504, "Gateway Timeout", "The origin did not answer in time.")
FORGED_EVENTS = Refusal(403, "Forbidden", "Client not allowed to send WebSocket events directly.")
TOO_LARGE_TO_HOLD = Refusal(400, "Bad Request", "Request too large to accept GRIP instruct.")


def refuse(client: ClientExchange, refusal: Refusal, instead: str = "") -> None:
    """Give the answer; with the text `instead`, when there is one."""
    text = f"{instead or refusal.text}\n"
    client.answer(refusal.status, refusal.reason, [("Content-Type", "text/plain")], text.encode())

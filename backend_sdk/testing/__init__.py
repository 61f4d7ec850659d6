"""Drive a backend in memory: no edge, no Redis, no socket, no waiting.

    async with TestEdge(app) as edge:
        ada = await edge.connect(path="/chat", subprotocols=["chat.v1"])
        await ada.send("hi")
        assert ada.received == ["hi"]
        assert ada.actions == [actions.send("hi")]
        await edge.advance(3_000)          # timers that are due by then
        link = edge.link("x:ada")          # an XMPP link that the app has connected
        await link.message("hi", sender="bob@chat.example")
        assert link.bodies == ["hi yourself"]

Requests are signed, encoded and decoded as on the wire, and what the backend orders takes effect: messages arrive,
channels fan out, state is kept, timers wait for the clock. `SyncTestEdge` is the same without ``await``.
"""

from backend_sdk.testing.edge import SyncTestClient, SyncTestEdge, SyncTestLink, TestClient, TestEdge, TestLink
from backend_sdk.testing.records import BackendFailed, Closed, Rejected

__all__ = [
    "BackendFailed",
    "Closed",
    "Rejected",
    "SyncTestClient",
    "SyncTestEdge",
    "SyncTestLink",
    "TestClient",
    "TestEdge",
    "TestLink",
]

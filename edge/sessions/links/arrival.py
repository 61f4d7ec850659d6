"""How a link gets to its server: whose it is, what to log in with, when, where to; again and again until it is there.

One task for each link that is on its way, and none for one that has arrived.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge.config import XmppSettings
from edge.errors import DialError, VaultError
from edge.links.connection import LinkConnection
from edge.model.link_phases import LinkPhase
from edge.protocol.xmpp.component import ComponentStream
from edge.protocol.xmpp.credentials import Account, Certificate, Credentials, Token
from edge.protocol.xmpp.framing import StreamLimits
from edge.protocol.xmpp.jid import bare
from edge.protocol.xmpp.negotiation import Tls
from edge.protocol.xmpp.stream import XmppStream
from edge.protocol.xmpp.stream_facts import ComponentPlan, Stream, StreamPlan
from edge.protocol.xmpp.stream_management import MODULUS, SavedStream
from edge.sessions.links.reset import said_again

if TYPE_CHECKING:
    from edge.sessions.links.link import Link

_log = logging.getLogger("holdfast.links")

AGAIN_FIRST_MS = 500
AGAIN_MOST_MS = 30_000
"""Full jitter between these after a failure; the first try after a loss is made at once."""
ASK_S = 30.0
"""How long a backend may take to give credentials until it is asked again."""
BROKEN_OFF = frozenset({"", "ended", "undefined-condition"})
NOT_THERE = frozenset(
    {"connection-timeout", "certificate-invalid", "tls-failed", "tls-not-offered", "tls-refused", "system-shutdown",
     "host-unknown", "host-gone", "internal-server-error", "resource-constraint", "see-other-host"}
)  # fmt: skip
"""What says that the server cannot serve anybody now, and not only this link."""
RESUME_TRIES = 2
"""A server that breaks the connection instead of answering <resume/> has lost the session (Prosody does so when the
count does not fit)."""


class Arrival:
    """One link's way to its server."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._failures = 0
        self._broken_resumes = 0
        self._credentials_used: Credentials | None = None

    async def run(self) -> None:
        """Until the link is live, or nobody wants it to be."""
        link = self._link
        if link.wire.failure.condition == "conflict":
            # Somebody else has the domain. Taken back at once, it would be lost again, and so on.
            await asyncio.sleep(link.services.random() * AGAIN_MOST_MS / 1_000)
        while link.phase is LinkPhase.CONNECTING:
            await link.confirmed()
            server = link.server
            if server is None:
                link.end(
                    "xmpp.disconnected", "not-configured", f"the edge's settings name no XMPP server for {link.domain}"
                )
                return
            credentials = None if server.is_component else await self._credentials()
            if credentials is None and not server.is_component:
                continue
            async with link.services.house.under_way(server.domain):
                await link.services.pacer.admitted(server)
                if link.phase is not LinkPhase.CONNECTING or await self._try(server, credentials):
                    return
            self._failures += 1
            most = min(AGAIN_MOST_MS, AGAIN_FIRST_MS << min(self._failures, 7))
            await asyncio.sleep(link.services.random() * most / 1_000)

    async def _try(self, server: XmppSettings, credentials: Credentials | None) -> bool:
        """Whether it is over: the link is live, or has ended."""
        link, services = self._link, self._link.services
        ledger = link.ledger
        resuming = bool(ledger.base.sm_id) and self._broken_resumes < RESUME_TRIES
        location = ledger.base.location if resuming else ""
        try:
            transport, connection = await services.dialer.dial(
                server, lambda: LinkConnection(services.loop, services.shared.wheel), location=location
            )
        except DialError as error:
            services.pacer.unreachable(server.domain, str(error), permanent=error.permanent)
            link.meters.link_logins["unreachable"].value += 1
            _log.warning("link %s: %s is not reached: %s", link.id, server.domain, error)
            return False
        assert isinstance(connection, LinkConnection)
        if link.phase is not LinkPhase.CONNECTING:
            transport.abort()
            return True
        make_stream = self._stream(server, credentials, resuming=resuming)
        context = services.dialer.context(server) if server.tls == "starttls" else None
        password = credentials.password if isinstance(credentials, Account) else None
        self._credentials_used = credentials
        outcome = link.wire.begin(connection, resuming=resuming)
        connection.begin(make_stream, link.wire, domain=server.domain, context=context, password=password)
        try:
            live = await outcome
        except asyncio.CancelledError:
            connection.abort()
            raise
        failure = link.wire.failure
        if live or failure.condition not in NOT_THERE:
            services.pacer.reached(server.domain)
        else:
            wrong = failure.condition == "certificate-invalid"
            services.pacer.unreachable(server.domain, f"{failure.condition} {failure.text}", permanent=wrong)
        if not live:
            if resuming and failure.condition in BROKEN_OFF:
                self._broken_resumes += 1
            if link.phase is LinkPhase.CONNECTING:
                link.meters.link_logins["failed"].value += 1
            return link.phase is not LinkPhase.CONNECTING
        return True

    def _stream(
        self, server: XmppSettings, credentials: Credentials | None, *, resuming: bool
    ) -> Callable[[float], Stream]:
        """What makes the stream that goes on with what the ledger has."""
        if credentials is None:
            component = self._component_plan(server)
            return lambda now: ComponentStream(component, now)
        plan = self._plan(server, credentials, resuming=resuming)
        return lambda now: XmppStream(plan, lambda: secrets.token_urlsafe(18), now)

    def _component_plan(self, server: XmppSettings) -> ComponentPlan:
        link, ledger = self._link, self._link.ledger
        assert server.component_secret is not None
        return ComponentPlan(
            domain=server.domain,
            secret=server.component_secret.value,
            unacked=said_again(ledger.unacked, link.wire.written, link.domain),
            base=(ledger.out_n - len(ledger.unacked)) % MODULUS,
            received=ledger.heard_upto,
            negotiation_s=server.negotiation_s,
            silence_s=server.silence_s,
            answer_s=server.answer_s,
            limits=link.limits,
        )

    def _plan(self, server: XmppSettings, credentials: Credentials, *, resuming: bool) -> StreamPlan:
        link, ledger, services = self._link, self._link.ledger, self._link.services
        row = ledger.base
        resume = None
        if resuming:
            base = (ledger.out_n - len(ledger.unacked)) % MODULUS
            unacked = tuple(stanza.raw for stanza in ledger.unacked)
            resume = SavedStream(row.sm_id, ledger.h_in, base, unacked, row.sm_max_s or None, row.location)
        _, _, bound = row.bound_jid.partition("/")
        return StreamPlan(
            domain=server.domain,
            credentials=credentials,
            resource=link.options.resource or bound,
            tls=Tls(server.tls),
            bare_without_tls=server.plain_without_tls,
            pinned=services.house.pinned.get(server.domain),
            resume=resume,
            resume_max_s=round(server.resume_s),
            carbons=link.options.carbons,
            # Also without a client: the backend is there. And Prosody 0.12 sometimes does not write the last message to
            # who is not active, until it hears something (mod_csi_simple).
            active=True,
            negotiation_s=server.negotiation_s,
            silence_s=server.silence_s,
            answer_s=server.answer_s,
            limits=StreamLimits(stanza_bytes=server.stanza_bytes),
        )

    # -- credentials

    async def _credentials(self) -> Credentials | None:
        """None: there are none yet; or the link has ended for want of them."""
        link = self._link
        if link.options.asks:
            return await link.ask_credentials(ASK_S)
        sealed = link.ledger.base.credentials
        try:
            return link.services.vault.open(link.id, sealed)
        except VaultError as error:
            _log.error("link %s: its credentials cannot be read: %s", link.id, error)
            link.end("xmpp.auth_failed", "credentials-unreadable", "the edge cannot read the stored credentials")
            return None

    def remember(self) -> None:
        """Keep what makes the next login cheaper, and less secret: the keys made of the password; and once the server
        has taken them a second time, so that it salts passwords once and not anew each time, only them."""
        link, credentials = self._link, self._credentials_used
        keys, mechanism = link.wire.keys, link.wire.mechanism
        link.services.house.pinned[link.domain] = mechanism
        if link.options.asks or not isinstance(credentials, Account):
            return
        kept = credentials
        if keys is not None:
            kept = credentials.with_keys(keys)
        elif credentials.password is not None and mechanism.startswith("SCRAM-"):
            kept = credentials.without_password()
        if kept is not credentials or link.services.vault.stale(link.ledger.base.credentials):
            link.ledger.save(credentials=link.services.vault.seal(link.id, kept))


def credentials_for(jid: str, given: Credentials) -> Credentials:
    """`given`, with the account's name where it lacks one."""
    name = bare(jid).rpartition("@")[0]
    match given:
        case Account(username="") as account:
            return Account(name, account.password, account.keys)
        case Token(username="") as token:
            return Token(name, token.token)
        case Certificate(address=""):
            return Certificate(bare(jid))
        case _:
            return given

"""Fetching from the account's archive what a lost session missed (XEP-0313 with XEP-0059).

`Catchup` is one such fetch: it says what to ask next, and takes what comes. It begins behind the newest message that
is known to have arrived, and goes on page by page until the archive says that is all. Messages that arrive meanwhile
are in the archive too: tell it about them (`arrived`), and none of them is given out again.

Not for rooms, whose archives are their own, nor for presence and iq, which nobody archives.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from edge.protocol.xmpp import escape, names
from edge.protocol.xmpp.element import Element
from edge.protocol.xmpp.outgoing import iq_stanza
from edge.protocol.xmpp.stanza import Delay, unwrap

PAGE = 100
"""Messages asked for at once. Servers may give fewer; none is known to allow less."""
PAGES = 100
"""After that many pages the rest is left out: whoever was away for longer reads the archive when somebody asks."""


@dataclass(frozen=True, slots=True)
class Archived:
    """A message from the archive. `id`: its id there, as in live messages' `stanza_id`. `ours`: sent by this link."""

    id: str
    message: Element
    delay: Delay | None
    ours: bool


class CatchupEnd(enum.Enum):
    WHOLE = "whole"
    """All there is was given out."""
    BROKEN = "broken"
    """The archive cannot say what followed the known message, does not answer, or has too much: there may be a gap."""


class Catchup:
    """One fetch, by the link with the full JID `account`.

    `after`: archive id of the newest message that arrived; without it, or if the archive has forgotten that one,
    everything from `start` (XEP-0082 time) on is fetched, and without that as well nothing can be.
    `name` makes the ids of its iqs and must be the link's alone.
    """

    __slots__ = (
        "_account", "_after", "_asked", "_bare", "_name", "_news", "_page", "_pages", "_seen", "_start", "end",
        "newest",
    )  # fmt: skip

    def __init__(
        self, account: str, name: str, after: str | None, start: str | None = None, *, page: int = PAGE,
        pages: int = PAGES,
    ) -> None:  # fmt: skip
        self._account = account
        self._bare = account.partition("/")[0]
        self._name = name
        self._after = after
        self._start = start
        self._page = page
        self._pages = pages
        self._asked = 0
        self._news = 0
        self._seen: set[str] = set()
        self.newest = after
        """Archive id of the newest message given out: where another fetch would begin."""
        self.end: CatchupEnd | None = None if after or start else CatchupEnd.BROKEN

    @property
    def id(self) -> str:
        """Id of the iq that is open, and the name of its query."""
        return f"{self._name}-{self._asked}"

    def ask(self) -> bytes | None:
        """The next query, to be sent now; None: this fetch is over, see `end`."""
        if self.end is not None:
            return None
        if self._asked >= self._pages:
            self.end = CatchupEnd.BROKEN
            return None
        self._asked += 1
        self._news = 0
        fields, after = "", ""
        if self._after is not None:
            after = f"<after>{escape.text(self._after)}</after>"
        elif self._start is not None:
            fields = _form(self._start)
        query = (
            f"<query xmlns='{names.ARCHIVE}' queryid='{escape.attribute(self.id)}'>{fields}"
            f"<set xmlns='{names.RESULT_SETS}'><max>{self._page}</max>{after}</set></query>"
        )
        return iq_stanza("set", self.id, None, query, self._account).raw

    def arrived(self, stanza_id: str) -> None:
        """A live message with this id in the archive came after the link was connected."""
        if self.end is None:
            self._seen.add(stanza_id)

    def belongs(self, element: Element) -> bool:
        """Whether this message is the archive's answer and no message to the user. Only the account's own archive
        has a say (XEP-0313 §5)."""
        return self._result(element) is not None

    def give(self, element: Element) -> Archived | None:
        """What was archived in an element that `belongs`; None: it came already, or there is no message in it."""
        result = self._result(element)
        if result is None:
            return None
        id = result.attributes["id"]
        forwarded = result.child("forwarded", names.FORWARD)
        opened = None if forwarded is None else unwrap(forwarded, self._bare)
        self._news += 1
        self.newest = id
        if id in self._seen or opened is None:
            return None
        self._seen.add(id)
        message, delay = opened
        return Archived(id, message, delay, message.attributes.get("from") == self._account)

    def finish(self, element: Element) -> None:
        """The iq that answers the open query (whether it does is `IqTable`'s business); then `ask` again."""
        if element.attributes.get("type") != "result":
            self._refused(element)
            return
        fin = element.child("fin", names.ARCHIVE)
        if fin is None:
            self.end = CatchupEnd.BROKEN
            return
        results = fin.child("set", names.RESULT_SETS)
        last = None if results is None else results.child("last")
        if fin.attributes.get("complete") in ("true", "1") or (last is None and not self._news):
            self.end = CatchupEnd.WHOLE
            return
        after = self.newest if last is None else last.text()
        if after == self._after:  # the same page would come for ever
            self.end = CatchupEnd.BROKEN
        self._after = after

    def fail(self) -> None:
        """No answer came in time, or the stream is gone."""
        if self.end is None:
            self.end = CatchupEnd.BROKEN

    def _refused(self, element: Element) -> None:
        """``item-not-found``: the archive knows nothing of the message to begin behind (XEP-0059 §2.2)."""
        error = element.child("error")
        unknown = error is not None and error.child("item-not-found", names.STANZA_ERRORS) is not None
        if unknown and self._after is not None and self._start is not None:
            self._after = None
        else:
            self.end = CatchupEnd.BROKEN

    def _result(self, element: Element) -> Element | None:
        if self.end is not None or queried(element, self._bare) != self.id:
            return None
        result = element.child("result", names.ARCHIVE)
        return result if result is not None and result.attributes.get("id") else None


def queried(element: Element, account: str) -> str | None:
    """The name of the query that this message answers; None: it does not. `account`: the bare JID, whose archive alone
    is believed."""
    if element.name != "message" or element.attributes.get("from", account) != account:
        return None
    result = element.child("result", names.ARCHIVE)
    return result.attributes.get("queryid") if result is not None else None


def newer(id: str, known: str) -> str:
    """Which of two archive ids to read on behind, of which `id` came last. Ids mean nothing but to their archive
    (XEP-0313 §3.1.1); some are times in microseconds, and of those the later one it is, in whatever order they came."""
    # Not as int: they may have any length.
    older = id.isdecimal() and known.isdecimal() and (len(id), id) < (len(known), known)
    return known if older else id


def _form(start: str) -> str:
    """XEP-0313 §4.1.2."""
    kind = f"<field var='FORM_TYPE' type='hidden'><value>{names.ARCHIVE}</value></field>"
    begin = f"<field var='start'><value>{escape.text(start)}</value></field>"
    return f"<x xmlns='{names.FORMS}' type='submit'>{kind}{begin}</x>"

"""Names of Redis keys. All keys of one session, channel, or of the leases share a hash tag, and so a cluster
slot.

hf:s:{sid}        hash: the session's row         hf:a:{sid}:<id>   an action's idempotency key
hf:e:{edge}       set: sessions the edge owns     hf:u:{user}       set: sessions of a user (a hint, repaired)
hf:c:{channel}    hash: offset and epoch          hf:h:{channel}    list: history, oldest first
hf:i:{channel}:<id>  a publication's id           hf:b:{channel}    pub/sub: publications
hf:m:{edge}       pub/sub: mail to an edge        hf:r:{app}        hash: release table
hf:{edges}        zset: edge → lease expiry, ms   hf:{edges}:info, :claims, :buried
hf:x:{link}       hash: the link's row            hf:xe:{link}      list: events that wait for the backend
hf:xu:{link}      list: stanzas without an ack    hf:xq:{link}      hash: iq requests without an answer
hf:xf:{link}      fence and seq of an ended one   hf:xa:{link}:<id> an action's idempotency key
hf:xp:{link}      list: events laid aside         hf:l:{edge}       set: links the edge owns
hf:{links}:free   set: "<fence> <link>" of released links
hf:o:{office}     who has an office that one edge has at a time
"""

from __future__ import annotations


class Keys:
    """Key names under one prefix (so that several installations can share a Redis)."""

    __slots__ = ("_prefix", "buried", "claims", "edges", "free_links", "info")

    def __init__(self, prefix: str = "hf:") -> None:
        if "{" in prefix or "}" in prefix:
            raise ValueError("a key prefix must not contain braces: they choose the cluster slot")
        self._prefix = prefix
        self.edges = f"{prefix}{{edges}}"
        self.info = f"{prefix}{{edges}}:info"
        self.claims = f"{prefix}{{edges}}:claims"
        self.buried = f"{prefix}{{edges}}:buried"
        self.free_links = f"{prefix}{{links}}:free"

    def session(self, sid: str) -> str:
        return f"{self._prefix}s:{{{tag(sid)}}}"

    def action(self, sid: str, action_id: str) -> str:
        return f"{self._prefix}a:{{{tag(sid)}}}:{action_id}"

    def owned(self, edge: str) -> str:
        return f"{self._prefix}e:{{{tag(edge)}}}"

    def user(self, user: str) -> str:
        return f"{self._prefix}u:{{{tag(user)}}}"

    def channel(self, channel: str) -> str:
        return f"{self._prefix}c:{{{tag(channel)}}}"

    def history(self, channel: str) -> str:
        return f"{self._prefix}h:{{{tag(channel)}}}"

    def publication(self, channel: str, publication_id: str) -> str:
        return f"{self._prefix}i:{{{tag(channel)}}}:{publication_id}"

    def bus(self, channel: str) -> str:
        return f"{self._prefix}b:{{{tag(channel)}}}"

    def mail(self, edge: str) -> str:
        return f"{self._prefix}m:{{{tag(edge)}}}"

    def releases(self, app: str) -> str:
        return f"{self._prefix}r:{{{tag(app)}}}"

    def office(self, name: str) -> str:
        return f"{self._prefix}o:{{{tag(name)}}}"

    def link(self, link: str) -> tuple[str, str, str, str]:
        """Row, waiting events, unacknowledged stanzas, iq table."""
        prefix, name = self._prefix, tag(link)
        return f"{prefix}x:{{{name}}}", f"{prefix}xe:{{{name}}}", f"{prefix}xu:{{{name}}}", f"{prefix}xq:{{{name}}}"

    def link_fence(self, link: str) -> str:
        return f"{self._prefix}xf:{{{tag(link)}}}"

    def link_action(self, link: str, action_id: str) -> str:
        return f"{self._prefix}xa:{{{tag(link)}}}:{action_id}"

    def link_parked(self, link: str) -> str:
        return f"{self._prefix}xp:{{{tag(link)}}}"

    def links_of(self, edge: str) -> str:
        return f"{self._prefix}l:{{{tag(edge)}}}"


def tag(name: str) -> str:
    """`name` as a hash tag: ``}`` would end it early and an empty one would not be a tag at all."""
    if "}" in name or "%" in name:
        return name.replace("%", "%25").replace("}", "%7D")
    return name or "%"

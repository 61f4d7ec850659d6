"""Addresses (RFC 7622): taken apart, never changed.

Servers decide what is the same address (they normalise with PRECIS or the older stringprep, each in its own version),
so an address goes out as it was given, and only what the server says is compared. What is refused here could be in no
address and would only confuse who reads it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge.errors import WireError

_PART_BYTES = 1023
_NOT_LOCAL = re.compile("[\"&'/:<>@\\s\x00-\x1f\x7f]")
"""RFC 7622 §3.3.1, and white space and control characters (§3.3: no such class is in a local part)."""
_NOT_DOMAIN = re.compile("[\"&'/<>@\\s\x00-\x1f\x7f]")
_NOT_RESOURCE = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Jid:
    """``local@domain/resource``; `local` and `resource` may be empty."""

    local: str
    domain: str
    resource: str

    @property
    def bare(self) -> str:
        """Without the resource."""
        return f"{self.local}@{self.domain}" if self.local else self.domain

    def __str__(self) -> str:
        return f"{self.bare}/{self.resource}" if self.resource else self.bare


def parse_jid(text: str) -> Jid:
    """Raises WireError for what no server could mean."""
    address, slash, resource = text.partition("/")
    local, at, domain = address.rpartition("@")
    if (at and not local) or (slash and not resource) or not domain:
        raise WireError("an address is domain, local@domain or local@domain/resource, none of them empty")
    for name, part, wrong in (
        ("local part", local, _NOT_LOCAL), ("domain", domain, _NOT_DOMAIN), ("resource", resource, _NOT_RESOURCE)
    ):  # fmt: skip
        if wrong.search(part):
            raise WireError(f"the {name} of an address contains a character that is not allowed there")
        try:
            size = len(part.encode())
        except UnicodeEncodeError:
            raise WireError(f"the {name} of an address is not Unicode") from None
        if size > _PART_BYTES:
            raise WireError(f"the {name} of an address is longer than {_PART_BYTES} bytes")
    return Jid(local, domain, resource)


def bare(text: str) -> str:
    """The address without its resource, as given."""
    return text.partition("/")[0]

"""What links need besides what all sessions need: built once by the wiring."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.config import XmppSettings
from edge.links.dialer import XmppDialer
from edge.links.pacing import Pacer
from edge.links.vault import Vault
from edge.sessions.routes import RouteHandle
from edge.sessions.services import Services

if TYPE_CHECKING:
    from edge.sessions.links.house import House


@dataclass(slots=True, kw_only=True, eq=False)
class LinkServices:
    """The parts a link works with. One per process."""

    shared: Services
    loop: AbstractEventLoop
    dialer: XmppDialer
    pacer: Pacer
    vault: Vault
    server: Callable[[str], XmppSettings | None]
    """By domain: links go nowhere else."""
    find_route: Callable[[str, str], RouteHandle | None]
    """By name and app: whose backend hears of a link."""
    random: Callable[[], float]
    house: House

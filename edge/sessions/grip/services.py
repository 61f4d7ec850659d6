"""What GRIP connections need from the rest of the edge, in one place: built once by the wiring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge.backend.origin_base import Origins
from edge.clock import Clock
from edge.sessions.grip.links import Links
from edge.sessions.grip.ports import Channels, Held
from edge.sessions.grip.ways import Ways
from edge.telemetry.metrics import Metrics
from edge.wheel import Wheel

if TYPE_CHECKING:
    from edge.sessions.releases import Releases


class HeldClients:
    """Every GRIP client this process holds: sockets, and requests under way or held."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[Held, None] = {}

    def add(self, held: Held) -> None:
        self._held[held] = None

    def remove(self, held: Held) -> None:
        self._held.pop(held, None)

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        """A snapshot: clients may come and go while it is walked."""
        return iter(tuple(self._held))


@dataclass(slots=True, kw_only=True, eq=False)
class GripServices:
    """The parts a GRIP connection works with. One per process."""

    clock: Clock
    wheel: Wheel
    metrics: Metrics
    origins: Origins
    channels: Channels
    releases: Releases
    held: HeldClients
    random: Callable[[], float]
    ways: Ways = field(init=False)
    links: Links = field(init=False)

    def __post_init__(self) -> None:
        self.ways = Ways(self)
        self.links = Links(self)

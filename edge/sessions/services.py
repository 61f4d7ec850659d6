"""What sessions need from the rest of the edge, in one place: built once by the wiring, read by everybody here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge.backend.base import Deliverer
from edge.clock import Clock
from edge.sessions.journal import Journal
from edge.store.base import Store
from edge.telemetry.metrics import Metrics
from edge.wheel import Wheel

if TYPE_CHECKING:
    from edge.sessions.channels import ChannelPolicies
    from edge.sessions.hub import Hub
    from edge.sessions.post import Post
    from edge.sessions.registry import Registry
    from edge.sessions.releases import Releases


@dataclass(slots=True, kw_only=True, eq=False)
class Services:
    """The parts a session works with. One per process."""

    edge_id: str
    clock: Clock
    wheel: Wheel
    metrics: Metrics
    store: Store
    deliverer: Deliverer
    policies: ChannelPolicies
    hub: Hub
    registry: Registry
    releases: Releases
    post: Post
    journal: Journal = field(default_factory=Journal)

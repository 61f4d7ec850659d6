"""Settings: `groups` has the shapes, `loader` reads files, environment and flags into them."""

from edge.config.groups import (
    ChannelSettings,
    EdgeSettings,
    LimitSettings,
    PoolSettings,
    RouteSettings,
    Secret,
    Settings,
    TimeoutSettings,
)

__all__ = [
    "ChannelSettings",
    "EdgeSettings",
    "LimitSettings",
    "PoolSettings",
    "RouteSettings",
    "Secret",
    "Settings",
    "TimeoutSettings",
]

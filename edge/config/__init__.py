"""Settings: `groups` has the shapes, `loader` reads files, environment and flags into them."""

from edge.config.groups import (
    ChannelSettings,
    EdgeSettings,
    GripRouteSettings,
    GripSettings,
    LimitSettings,
    PoolSettings,
    PublisherSettings,
    RouteSettings,
    Secret,
    Settings,
    TargetSettings,
    TimeoutSettings,
    XmppSettings,
)

__all__ = [
    "ChannelSettings",
    "EdgeSettings",
    "GripRouteSettings",
    "GripSettings",
    "LimitSettings",
    "PoolSettings",
    "PublisherSettings",
    "RouteSettings",
    "Secret",
    "Settings",
    "TargetSettings",
    "TimeoutSettings",
    "XmppSettings",
]

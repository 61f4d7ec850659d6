"""Which history a channel keeps: the settings' longest matching prefix."""

from __future__ import annotations

from collections.abc import Sequence

from edge.config import ChannelSettings
from edge.store.base import HistoryPolicy

NO_HISTORY = HistoryPolicy()


class ChannelPolicies:
    """Looks up a channel's history policy. `replace` takes new settings at once; what is stored already is trimmed by
    the next publication."""

    __slots__ = ("_by_prefix",)

    def __init__(self, channels: Sequence[ChannelSettings] = ()) -> None:
        self._by_prefix: list[tuple[str, HistoryPolicy]] = []
        self.replace(channels)

    def replace(self, channels: Sequence[ChannelSettings]) -> None:
        self._by_prefix = sorted(
            (
                (settings.prefix, HistoryPolicy(settings.history_count, int(settings.history_age_s * 1_000)))
                for settings in channels
            ),
            key=lambda item: -len(item[0]),
        )

    def of(self, channel: str) -> HistoryPolicy:
        """The policy of `channel`; no history when no prefix matches."""
        for prefix, policy in self._by_prefix:
            if channel.startswith(prefix):
                return policy
        return NO_HISTORY

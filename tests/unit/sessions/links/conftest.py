"""Links of one edge on a real Redis."""

from __future__ import annotations

from tests.unit.store.conftest import open_edge, prefix, redis_server, redis_url

__all__ = ["open_edge", "prefix", "redis_server", "redis_url"]

"""The proxies that every promise of compatibility is held against: the original and ours, with the same routes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.grip_proxy import EdgeOptions, GripEdge, GripRoute
from tests.support.pushpin import Pushpin

StartProxy = Callable[..., Pushpin | GripEdge]
"""(folder, *routes, message_wait_s=5.0) → a proxy that has its ports, and runs while its block does."""


def _pushpin(folder: Path, *routes: GripRoute, message_wait_s: float = 5.0) -> Pushpin:
    return Pushpin(folder, *routes, settings={"handler": [f"message_wait={message_wait_s * 1000:.0f}"]})


def _holdfast(folder: Path, *routes: GripRoute, message_wait_s: float = 5.0) -> GripEdge:
    return GripEdge(folder, *routes, options=EdgeOptions(settings={"grip": {"message_wait_s": message_wait_s}}))


PROXIES: dict[str, StartProxy] = {"pushpin": _pushpin, "holdfast": _holdfast}


@pytest.fixture(scope="module", params=list(PROXIES))
def proxy_kind(request: pytest.FixtureRequest) -> str:
    """Asked for by a test (or a fixture of it), it runs with every proxy."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def start_proxy(proxy_kind: str) -> StartProxy:
    return PROXIES[proxy_kind]

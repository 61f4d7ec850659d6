"""The proxies that every promise of compatibility is held against: the original and ours, with the same routes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.grip_proxy import GripEdge, GripRoute
from tests.support.pushpin import Pushpin

StartProxy = Callable[..., Pushpin | GripEdge]
"""(folder, *routes) → a proxy that has its ports, and runs while its block does."""

PROXIES: dict[str, StartProxy] = {"pushpin": Pushpin}


@pytest.fixture(scope="module", params=list(PROXIES))
def proxy_kind(request: pytest.FixtureRequest) -> str:
    """Asked for by a test (or a fixture of it), it runs with every proxy."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def start_proxy(proxy_kind: str) -> StartProxy:
    def start(folder: Path, *routes: GripRoute) -> Pushpin | GripEdge:
        return PROXIES[proxy_kind](folder, *routes)

    return start

"""Servers, each shared by the tests of one module."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

# Their assertions say what was wrong, too.
for _module in ("holding", "traffic"):
    pytest.register_assert_rewrite(f"tests.scenarios.xmpp.{_module}")

from tests.support.xmpp import SERVERS, XmppServer  # noqa: E402


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=sorted(SERVERS))
async def shared_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[XmppServer]:
    """With 30 accounts and an archive. Each test takes accounts that no other one uses."""
    async with SERVERS[request.param](tmp_path_factory.mktemp("xmpp"), accounts=30, archive=True) as running:
        yield running

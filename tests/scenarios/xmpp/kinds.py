"""Which servers a scenario runs against."""

from __future__ import annotations

import pytest

from tests.support.xmpp import SERVERS

EVERY_KIND = pytest.mark.parametrize("kind", sorted(SERVERS))
"""What servers differ in matters."""
ANY_KIND = pytest.mark.parametrize("kind", [pytest.param("ejabberd", marks=pytest.mark.long), "prosody"])
"""It is the edge, Redis or the backend that matters; ejabberd's turn is in `make test-long`."""

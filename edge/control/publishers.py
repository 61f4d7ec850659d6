"""Publishers: who may use the publishing endpoints, and nothing else of the API."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from edge.config import PublisherSettings
from edge.errors import WireError
from edge.protocol.grip.signature import verify_publisher

_log = logging.getLogger("holdfast.control")


def is_publisher(authorization: str, publishers: Sequence[PublisherSettings], now_s: int) -> bool:
    """Does this Authorization header belong to one of `publishers`?"""
    try:
        verify_publisher(_unquoted(authorization), {each.name: each.key.value for each in publishers}, now_s)
    except WireError as error:
        # The caller learns no more than that it was not enough.
        _log.debug("not a publisher's credentials: %s", error)
        return False
    return True


def _unquoted(authorization: str) -> str:
    """pubcontrol for Python 3 sends the repr of its Basic credentials: ``Basic b'bmFtZTprZXk='``."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "basic" and credentials.startswith("b'") and credentials.endswith("'"):
        return f"{scheme} {credentials[2:-1]}"
    return authorization

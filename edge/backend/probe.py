"""Is a release there? One request, for operators who add it and for the edge that warms it."""

from __future__ import annotations

import httpx

TIMEOUT_S = 5.0


async def probe(url: str, health_path: str) -> str:
    """What is wrong with the release at `url`, for people; ``""``: it is well.

    With a path a GET of it must be answered 2xx; without one, a GET of the URL anything below 500. Redirects are not
    followed.
    """
    address = url.rstrip("/") + health_path if health_path else url
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client,
            client.stream("GET", address) as answer,
        ):
            good = answer.is_success if health_path else answer.status_code < 500
            return "" if good else f"GET {address} was answered {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"GET {address}: {error or type(error).__name__}"

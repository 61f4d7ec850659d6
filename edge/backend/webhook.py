"""News of releases, POSTed to an operator's URL and signed as Standard Webhooks say (standardwebhooks.com, spec 1.0.0).

News wait in a bounded queue, the oldest giving way, while the receiver is away; each is tried a few times and then
dropped, with a line in the log. The same ``webhook-id`` comes with each try, so that the receiver can drop repeats.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import time
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Callable, Mapping
from hashlib import sha256
from secrets import token_hex
from typing import Any

import httpx

_log = logging.getLogger("holdfast.webhook")

WAITING_MOST = 256
TRIES = 6
FIRST_PAUSE_S = 0.5
"""Doubled after each try: 15 s in all."""
TIMEOUT_S = 5.0


class Webhook:
    """`target` gives the URL and the secret as they are now; an empty URL: nobody wants to know."""

    def __init__(self, target: Callable[[], tuple[str, str]]) -> None:
        self._target = target
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=WAITING_MOST)
        self._task: asyncio.Task[None] | None = None

    def tell(self, event: Mapping[str, Any]) -> None:
        """Queue `event`. Never blocks, never raises."""
        url, _ = self._target()
        if not url:
            return
        if len(self._waiting) == WAITING_MOST:
            _log.warning("%s does not keep up: the oldest of %d news is dropped", url, WAITING_MOST)
        self._waiting.append((f"msg_{token_hex(12)}", json.dumps(event).encode()))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send_all())

    async def stop(self) -> None:
        """What has not been sent never will be."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send_all(self) -> None:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            while self._waiting:
                id, body = self._waiting.popleft()
                await self._send(client, id, body)

    async def _send(self, client: httpx.AsyncClient, id: str, body: bytes) -> None:
        problem, url = "", ""
        for attempt in range(TRIES):
            if attempt:
                await asyncio.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
            url, secret = self._target()
            if not url:
                return
            try:
                answer = await client.post(url, content=body, headers=signed(id, body, secret, int(time.time())))
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                problem = str(error) or type(error).__name__
                continue
            if answer.is_success:
                return
            problem = f"status {answer.status_code}"
        _log.warning("%s did not take news of a release, %d times: %s", url, TRIES, problem)


def signed(id: str, body: bytes, secret: str, now: int) -> Mapping[str, str]:
    """The headers of a message. `secret`: ``whsec_`` and base64, or any text; empty: no signature. `now`: seconds."""
    headers = {"content-type": "application/json", "webhook-id": id, "webhook-timestamp": str(now)}
    if not secret:
        return headers
    digest = hmac.digest(key_of(secret), f"{id}.{now}.".encode() + body, sha256)
    return {**headers, "webhook-signature": f"v1,{b64encode(digest).decode()}"}


def key_of(secret: str) -> bytes:
    """The key that a secret stands for."""
    if secret.startswith("whsec_"):
        try:
            return b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            pass
    return secret.encode()

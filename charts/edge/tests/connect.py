"""What `helm test` runs in the edge's own image: a WebSocket connects, and a publication is accepted.

Arguments: WebSocket URL, control URL, channel. Environment: HOLDFAST_TOKEN, TEST_HOST, TEST_ORIGIN. Exit code 0: both
work.
"""

import os
import sys
import time
from socket import create_connection, socket
from urllib.parse import urlsplit

import httpx
from websockets.sync.client import connect

PATIENCE_S = 30
"""A NetworkPolicy lets a new pod through only when the network has heard of it."""


def reached(host: str, port: int) -> socket:
    ends = time.monotonic() + PATIENCE_S
    while True:
        try:
            return create_connection((host, port), timeout=20)
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.5)


def main(socket_url: str, control_url: str, channel: str) -> int:
    wanted = os.environ.get("TEST_HOST", "*")
    host = None if "*" in wanted else wanted
    parts = urlsplit(socket_url)
    # The URL names the host that the route takes; the connection goes to the Service.
    url = socket_url if host is None else socket_url.replace(parts.netloc, host, 1)
    control = urlsplit(control_url)
    reached(control.hostname or "", control.port or 80).close()
    raw = reached(parts.hostname or "", parts.port or 80)
    with connect(url, sock=raw, open_timeout=20, origin=os.environ.get("TEST_ORIGIN")) as client:
        client.ping().wait(10)
        print(f"connected to {socket_url}")
        answer = httpx.post(
            f"{control_url}/v1/channels/{channel}/publications",
            json={"text": "a test of this installation"},
            headers={"Authorization": f"Bearer {os.environ['HOLDFAST_TOKEN']}"},
            timeout=20,
        )
        if answer.status_code != 200:
            print(f"publishing failed: {answer.status_code} {answer.text}", file=sys.stderr)
            return 1
        print(f"published to {channel}: {answer.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

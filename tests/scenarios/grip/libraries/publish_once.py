"""Publishes one item with pubcontrol, as a script of an operator would.

Usage: ``python -m tests.scenarios.grip.libraries.publish_once CONTROL_URI CHANNEL TEXT [jwt|basic|bearer NAME KEY]``.
Ends with 0 when it was published; with 1 and the reason when it was refused.
"""

from __future__ import annotations

import sys

from gripcontrol import HttpStreamFormat
from pubcontrol import Item, PubControlClient


def main(uri: str, channel: str, text: str, way: str = "", name: str = "", key: str = "") -> int:
    client = PubControlClient(uri)
    match way:
        case "jwt":
            client.set_auth_jwt({"iss": name}, key)
        case "basic":
            client.set_auth_basic(name, key)
        case "bearer":
            client.set_auth_bearer(key)
    try:
        client.publish(channel, Item(HttpStreamFormat(text)), blocking=True)
    except ValueError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

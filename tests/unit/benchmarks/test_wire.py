"""The generator's bytes against a parser that did not come from it: `websockets`' own."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from benchmarks.load.wire import client_frame, handshake, post, server_frame

TEXTS = ["", "x", "ü" * 10, "y" * 125, "y" * 126, "y" * 65_535, "y" * 65_536]


def opened() -> ServerProtocol:
    server = ServerProtocol()
    server.receive_data(handshake("/chat", "127.0.0.1:1"))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    server.data_to_send()
    return server


def test_the_handshake_is_one() -> None:
    assert opened().state.name == "OPEN"


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: f"{len(text)}")
def test_client_frames_are_masked_text(text: str) -> None:
    server = opened()
    server.receive_data(client_frame(text))
    (frame,) = server.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.fin, bytes(frame.data).decode()) == (Opcode.TEXT, True, text)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: f"{len(text)}")
def test_server_frames_are_what_a_server_sends(text: str) -> None:
    server = opened()
    server.send_text(text.encode())
    assert b"".join(server.data_to_send()) == server_frame(text)


def test_a_post_says_its_length() -> None:
    head, _, body = post("/p", "h:1", "text/plain", b"four").partition(b"\r\n\r\n")
    assert head.startswith(b"POST /p HTTP/1.1\r\nHost: h:1\r\n")
    assert head.endswith(b"Content-Length: 4")
    assert body == b"four"

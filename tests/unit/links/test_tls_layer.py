"""TLS without a connection, towards OpenSSL as a server: every cut and end, and what servers do after a handshake."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.links.tls_layer import PIECE_BYTES, TlsLayer
from tests.support.ports import free_port
from tests.unit.links.certificates import make_certificate

DOMAIN = "chat.example"
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
Certificate = tuple[str, str]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("server"), "server", [DOMAIN])


def trust(certificate: Certificate | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate[0] if certificate else None)


class Server:
    """The other side, over BIOs of its own."""

    def __init__(self, certificate: Certificate, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        context.minimum_version = context.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.up = False
        self.heard = b""
        self.closed = False

    def receive(self, data: bytes) -> None:
        self.incoming.write(data)
        try:
            if not self.up:
                self.tls.do_handshake()
                self.up = True
            while not self.closed:
                piece = self.tls.read(65_536)
                self.heard += piece
                self.closed = not piece
        except ssl.SSLWantReadError:
            pass


class Pair:
    """Both, and a wire that cuts what it carries to pieces of these `sizes`, in turn."""

    def __init__(self, layer: TlsLayer, server: Server, sizes: tuple[int, ...] = (1 << 30,)) -> None:
        self.layer = layer
        self.server = server
        self.heard = b""
        self._sizes: Iterator[int] = cycle(sizes)
        self._to_server, self._to_layer = b"", b""

    def carry(self) -> None:
        """Until nothing is on its way."""
        while True:
            self._to_server += self.layer.send()
            self._to_layer += self.server.outgoing.read()
            if not (self._to_server or self._to_layer):
                return
            size = next(self._sizes)
            piece, self._to_server = self._to_server[:size], self._to_server[size:]
            self.server.receive(piece)
            piece, self._to_layer = self._to_layer[:size], self._to_layer[size:]
            self.heard += self.layer.receive(piece)


def up(certificate: Certificate, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Pair:
    pair = Pair(TlsLayer(trust(certificate), DOMAIN), Server(certificate, version))
    pair.carry()
    assert pair.layer.up
    assert pair.server.up
    return pair


@settings(max_examples=60, deadline=None)
@given(
    version=st.sampled_from(VERSIONS),
    sizes=st.lists(st.integers(1, 40) | st.integers(1, 5_000), min_size=1, max_size=4),
    said=st.lists(st.binary(min_size=1, max_size=300) | st.integers(1, 40_000).map(bytes), max_size=4),
    told=st.lists(st.binary(min_size=1, max_size=300) | st.integers(1, 16_384).map(bytes), max_size=4),
)
def test_what_is_said_arrives_in_every_cut(
    certificate: Certificate, version: ssl.TLSVersion, sizes: list[int], said: list[bytes], told: list[bytes]
) -> None:
    pair = Pair(TlsLayer(trust(certificate), DOMAIN), Server(certificate, version), tuple(sizes))
    early = pair.layer.send(b"early")
    pair.server.receive(early)
    pair.carry()
    assert pair.layer.up
    for message in told:
        pair.server.tls.write(message)
    for message in said:
        pair._to_server += pair.layer.send(message)
    pair.carry()
    assert pair.heard == b"".join(told)
    assert pair.server.heard == b"early" + b"".join(said)
    pair._to_server += pair.layer.close()
    pair.carry()
    assert pair.server.closed
    assert pair.layer.failure is None


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 64, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1])
@pytest.mark.parametrize("version", VERSIONS)
def test_data_behind_the_last_flight_is_heard(certificate: Certificate, version: ssl.TLSVersion, size: int) -> None:
    layer, server = TlsLayer(trust(certificate), DOMAIN), Server(certificate, version)
    while not server.up:
        server.receive(layer.send())
        if not server.up:
            layer.receive(server.outgoing.read())
    server.tls.write(b"at once")
    flight = server.outgoing.read()
    heard = [layer.receive(flight[at : at + size]) for at in range(0, len(flight), size)]
    assert layer.up
    assert b"".join(heard) == b"at once"


def test_what_was_said_before_the_handshake_waits_for_its_end(certificate: Certificate) -> None:
    layer, server = TlsLayer(trust(certificate), DOMAIN), Server(certificate)
    server.receive(layer.send(b"one "))
    server.receive(layer.send(b"two"))
    layer.receive(server.outgoing.read())
    server.receive(layer.send())
    assert server.heard == b"one two"


def test_long_messages_go_in_short_records(certificate: Certificate) -> None:
    pair = up(certificate)
    message = bytes(range(256)) * 4_096
    out = pair.layer.send(message)
    pair.server.receive(out)
    assert pair.server.heard == message
    while out:
        size = int.from_bytes(out[3:5], "big")
        assert size <= PIECE_BYTES + 64
        out = out[5 + size :]
    for at in range(0, len(message), 16_384):
        pair.server.tls.write(message[at : at + 16_384])
    assert pair.layer.receive(pair.server.outgoing.read()) == message


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_for_another_domain(tmp_path: Path, certificate: Certificate, version: ssl.TLSVersion) -> None:
    other = make_certificate(tmp_path, "other", ["else.example"])
    pair = Pair(TlsLayer(trust(other), DOMAIN), Server(other, version))
    with pytest.raises(ssl.SSLError, match="alert"):  # the server is told
        pair.carry()
    failure = pair.layer.failure
    assert isinstance(failure, ssl.SSLCertVerificationError)
    assert "Hostname mismatch" in failure.verify_message
    assert (pair.layer.up, pair.layer.over) == (False, True)
    assert pair.layer.close() == b""


def test_a_certificate_that_nobody_vouches_for(certificate: Certificate) -> None:
    pair = Pair(TlsLayer(trust(None), DOMAIN), Server(certificate))
    with pytest.raises(ssl.SSLError, match="alert"):
        pair.carry()
    failure = pair.layer.failure
    assert isinstance(failure, ssl.SSLCertVerificationError)
    assert failure.verify_message == "self-signed certificate"


def test_a_server_that_does_not_speak_tls(certificate: Certificate) -> None:
    layer = TlsLayer(trust(certificate), DOMAIN)
    assert layer.receive(b"<stream:features/>" * 1_000) == b""
    assert layer.over
    assert not layer.up
    assert not isinstance(layer.failure, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("domain", ["", ".example", "a" * 64])
def test_a_domain_that_no_certificate_can_be_for(certificate: Certificate, domain: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TlsLayer(trust(certificate), domain)


def test_of_a_record_that_was_cut_short_nothing_is_heard(certificate: Certificate) -> None:
    pair = up(certificate)
    pair.server.tls.write(b"whole")
    pair.server.tls.write(b"x" * 10_000)
    assert pair.layer.receive(pair.server.outgoing.read()[:-1]) == b"whole"
    assert not pair.layer.over


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_heard_before_a_record_that_was_tampered_with_counts(
    certificate: Certificate, version: ssl.TLSVersion
) -> None:
    pair = up(certificate, version)
    pair.server.tls.write(b"right")
    right = pair.server.outgoing.read()
    pair.server.tls.write(b"wrong")
    wrong = pair.server.outgoing.read()
    assert pair.layer.receive(right + wrong[:-1] + bytes([wrong[-1] ^ 1])) == b"right"
    assert pair.layer.over
    assert pair.layer.failure is not None
    assert pair.layer.failure.reason is not None
    assert "MAC" in pair.layer.failure.reason
    with pytest.raises(ssl.SSLError, match="alert bad record mac"):
        pair.server.receive(pair.layer.send(b"no more"))
    assert pair.layer.close() == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_heard_before_close_notify_counts(certificate: Certificate, version: ssl.TLSVersion) -> None:
    pair = up(certificate, version)
    pair.server.tls.write(b"</stream:stream>")
    with pytest.raises(ssl.SSLWantReadError):
        pair.server.tls.unwrap()
    assert pair.layer.receive(pair.server.outgoing.read()) == b"</stream:stream>"
    assert pair.layer.over
    assert pair.layer.failure is None


def test_what_was_not_up_is_closed_without_a_word(certificate: Certificate) -> None:
    layer = TlsLayer(trust(certificate), DOMAIN)
    assert layer.send()
    assert layer.close() == b""


# ---------------------------------------------------------------------- what Python's servers cannot do


class OpenSsl:
    """`openssl s_server`, which does by commands what servers may do at any time, and a layer on a socket."""

    def __init__(self, certificate: Certificate, version: str) -> None:
        port = free_port()
        command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "1", version]
        self.process = subprocess.Popen(
            [*command, "-cert", certificate[0], "-key", certificate[1]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(b"ACCEPT"):
                break
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.layer = TlsLayer(trust(certificate), DOMAIN)
        self.heard = b""
        self.pieces = 0
        """How often something came."""

    def command(self, text: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def until(self, true: Callable[[], bool]) -> None:
        while not true():
            if out := self.layer.send():
                self.socket.sendall(out)
            else:
                data = self.socket.recv(65_536)
                assert data
                self.pieces += 1
                self.heard += self.layer.receive(data)
                assert self.layer.failure is None

    def close(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.communicate()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program")
@pytest.mark.parametrize(("version", "command"), [("-tls1_3", b"K\n"), ("-tls1_2", b"r\n")])
def test_new_keys_in_mid_stream(certificate: Certificate, version: str, command: bytes) -> None:
    """By KeyUpdate, or another handshake: OpenSSL writes while it reads, and may not take what is to be said before."""
    there = OpenSsl(certificate, version)
    try:
        there.until(lambda: there.layer.up)
        there.command(b"hello\n")
        there.until(lambda: b"hello" in there.heard)  # and its tickets, if any
        pieces = there.pieces
        there.command(command)
        there.until(lambda: there.pieces > pieces)
        there.socket.sendall(there.layer.send(b"meanwhile\n"))
        there.command(b"welcome\n")
        there.until(lambda: b"welcome" in there.heard)
        there.until(lambda: not there.layer._unsaid)
        there.socket.sendall(there.layer.send(b"after\n"))
        there.command(b"goodbye\n")  # not from one who could not read what was said
        there.until(lambda: b"goodbye" in there.heard)
    finally:
        there.close()

"""Publishers' credentials open the publishing endpoints and nothing else; those of the real libraries among them."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from gripcontrol import GripPubControl, WebSocketMessageFormat
from pubcontrol import Item as LibraryItem
from pubcontrol import PubControlClient

from edge.config import PublisherSettings, Secret
from tests.unit.control.memory import MemoryEdge, api

KEY = "a key of thirty-two bytes or more"
ALICE = PublisherSettings("alice", Secret(KEY))
BODY = {"items": [{"channel": "room", "formats": {"ws-message": {"content": "hi"}}}]}


def token(claims: Mapping[str, Any] | None = None, key: Any = KEY, algorithm: str = "HS256") -> str:
    return jwt.encode({"iss": "alice", "exp": int(time.time()) + 600} | dict(claims or {}), key, algorithm)


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


async def status(
    authorization: str | None, *publishers: PublisherSettings, path: str = "/publish/", **more: Any
) -> int:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with api(MemoryEdge(), publishers=publishers, **more) as client:
        response = await client.post(path, json=BODY, headers=headers)
        return response.status_code


async def test_a_token_signed_with_the_publishers_key_opens_the_publishing_endpoints() -> None:
    for path in ("/publish", "/publish/", "/recover", "/recover/"):
        assert await status(f"Bearer {token()}", ALICE, path=path) == 200


async def test_a_name_and_key_open_them_too() -> None:
    assert await status(basic("alice", KEY), ALICE) == 200


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer nonsense",
        f"Bearer {KEY}",
        f"Bearer {token({'iss': 'bob'})}",
        f"Bearer {token({'exp': 1_000_000_000})}",
        f"Bearer {token(key='another key of thirty-two bytes at least')}",
        f"Bearer {jwt.encode({'iss': 'alice', 'exp': 4_000_000_000}, '', 'none')}",
        basic("alice", "wrong"),
        basic("bob", KEY),
        basic("alice", ""),
        "Basic !",
        "Basic b'!'",
    ],
)
async def test_anything_else_does_not(authorization: str | None) -> None:
    edge = MemoryEdge()
    async with api(edge, publishers=[ALICE]) as client:
        headers = {} if authorization is None else {"Authorization": authorization}
        response = await client.post("/publish/", json=BODY, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="holdfast", Basic realm="holdfast"'
    assert edge.items == []


@pytest.mark.parametrize("path", ["/v1/sessions?user=ann", "/metrics", "/v1/drain", "/v1/channels/room"])
async def test_publishers_credentials_open_nothing_else(path: str) -> None:
    async with api(MemoryEdge(), publishers=[ALICE], tokens=[Secret("operator")]) as client:
        for authorization in (f"Bearer {token()}", basic("alice", KEY)):
            assert (await client.get(path, headers={"Authorization": authorization})).status_code == 401
            assert (await client.post(path, headers={"Authorization": authorization})).status_code == 401


async def test_the_tokens_of_operators_may_publish() -> None:
    for publishers in ((), (ALICE,)):
        assert await status("Bearer operator", *publishers, tokens=[Secret("operator")]) == 200
        assert await status(None, *publishers, tokens=[Secret("operator")]) == 401


async def test_on_loopback_publishing_is_open_until_somebody_is_named() -> None:
    publishers: list[PublisherSettings] = []
    async with api(MemoryEdge(), publishers=publishers) as client:
        assert (await client.post("/publish/", json=BODY)).status_code == 200
        publishers.append(ALICE)  # a reload
        assert (await client.post("/publish/", json=BODY)).status_code == 401
        headers = {"Authorization": basic("alice", KEY)}
        assert (await client.post("/publish/", json=BODY, headers=headers)).status_code == 200
        # The rest of the API is as it was.
        assert (await client.get("/metrics")).status_code == 200
        publishers[0] = PublisherSettings("alice", Secret("a new key"))
        assert (await client.post("/publish/", json=BODY, headers=headers)).status_code == 401


async def test_a_web_page_of_another_site_may_not_publish() -> None:
    async with api(MemoryEdge()) as client:
        response = await client.post("/publish/", json=BODY, headers={"Origin": "https://evil.example"})
        assert response.status_code == 403
    async with api(MemoryEdge(), base_url="http://rebound.example:5561") as client:
        assert (await client.post("/publish/", json=BODY)).status_code == 403


async def test_a_public_key_checks_tokens_signed_with_its_private_one() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    signing = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    alice = PublisherSettings("alice", Secret(public))
    assert await status(f"Bearer {token(key=signing, algorithm='ES256')}", alice) == 200
    assert await status(f"Bearer {token()}", alice) == 401


class Recorder:
    """Stands in the place of the HTTP session of the real library, and keeps what it would have sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, str], bytes]] = []

    def post(self, url: str, headers: dict[str, str], data: bytes) -> Any:
        self.sent.append((url, headers, data))
        return type("Answer", (), {"status_code": 200, "text": "", "headers": {}})


def _sent_by(client: PubControlClient) -> tuple[str, dict[str, str], bytes]:
    client.requests_session = recorder = Recorder()
    client.publish("room", LibraryItem(WebSocketMessageFormat("hi"), "2", "1"), blocking=True)
    (sent,) = recorder.sent
    return sent


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
async def test_what_pubcontrol_and_gripcontrol_send_is_let_in() -> None:
    with_jwt = PubControlClient("http://localhost:5561", {"iss": "alice"}, KEY)
    with_basic = PubControlClient("http://localhost:5561")
    with_basic.set_auth_basic("alice", KEY)
    from_url = GripPubControl({"control_uri": "http://localhost:5561", "control_iss": "alice", "key": KEY}).clients[0]
    for client in (with_jwt, with_basic, from_url):
        url, headers, data = _sent_by(client)
        edge = MemoryEdge()
        async with api(edge, publishers=[ALICE]) as control:
            response = await control.post(url, headers=headers, content=data)
            assert response.status_code == 200, response.text
        (item,) = edge.items
        assert (item.channel, item.id, item.prev_id) == ("room", "2", "1")
        assert item.socket is not None
        assert item.socket.content == "hi"
        assert json.loads(data)["items"][0]["channel"] == "room"

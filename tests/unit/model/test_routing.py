"""Requests to routes, against a plain reading of the rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.model.routing import Claim, RouteTable, bare_host, host_matches, path_matches, rewritten

LABELS = st.sampled_from(["a", "b", "chat", "example"])
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.one_of(HOSTS, HOSTS.map("*.{}".format), st.just("*"))
PATHS = st.lists(st.sampled_from(["a", "ab", "b"]), max_size=4).map(lambda parts: "/" + "/".join(parts))
CLAIMS = st.builds(
    Claim, PATTERNS, PATHS, st.sampled_from(["", "http", "ws"]), st.sampled_from(["", "yes", "no"]), st.booleans()
)
TABLES = st.lists(CLAIMS, max_size=8)

Strength = tuple[int, int, bool, int, bool]


def strength(claim: Claim, host: str, path: str, *, websocket: bool, tls: bool) -> Strength | None:
    """How well one claim fits, straight from the rules."""
    if claim.whole_segments:
        segments = [part for part in claim.path.split("/") if part]
        if path.split("/")[1:][: len(segments)] != segments:
            return None
        length = len("".join("/" + segment for segment in segments))
    else:
        if path[: len(claim.path)] != claim.path:
            return None
        length = len(claim.path)
    if claim.scheme and (claim.scheme == "ws") != websocket:
        return None
    if claim.tls and (claim.tls == "yes") != tls:
        return None
    rest = claim.scheme != "", length, claim.tls != ""
    if claim.host == host:
        return 2, 0, *rest
    if claim.host == "*":
        return 0, 0, *rest
    labels = claim.host.split(".")[1:]
    below = len(host.split(".")) > len(labels) and host.split(".")[-len(labels) :] == labels
    return (1, len(claim.host), *rest) if claim.host.startswith("*.") and below else None


@given(TABLES, HOSTS, PATHS, st.booleans(), st.booleans())
def test_the_strongest_claim_wins(claims: list[Claim], host: str, path: str, websocket: bool, tls: bool) -> None:
    found = RouteTable(claims).find(host, path, websocket=websocket, tls=tls)
    strengths = [strength(claim, host, path, websocket=websocket, tls=tls) for claim in claims]
    strongest = max((each for each in strengths if each is not None), default=None)
    assert (None if found is None else strengths[found]) == strongest


@given(TABLES, HOSTS, PATHS, st.integers(0, 65535))
def test_port_and_case_do_not_matter(claims: list[Claim], host: str, path: str, port: int) -> None:
    table = RouteTable(claims)
    assert table.find(f"{host.upper()}:{port}", path) == table.find(host, path)


def test_prefixes_end_on_segment_borders() -> None:
    assert path_matches("/chat", "/chat")
    assert path_matches("/chat", "/chat/room")
    assert path_matches("/chat/", "/chat/room")
    assert path_matches("/", "/anything")
    assert not path_matches("/chat", "/chatty")
    assert not path_matches("/chat", "/")


def test_suffixes_take_what_is_below_them_only() -> None:
    assert host_matches("*.chat.example", "eu.chat.example")
    assert host_matches("*.Chat.example", "a.b.chat.example")
    assert not host_matches("*.chat.example", "chat.example")
    assert not host_matches("*.chat.example", "evilchat.example")


def test_bare_host() -> None:
    assert bare_host("Chat.Example:8080") == "chat.example"
    assert bare_host("[::1]:8080") == "[::1]"
    assert bare_host("chat.example.") == "chat.example"
    assert bare_host("") == ""


def test_a_path_that_does_not_match_makes_way() -> None:
    table = RouteTable([Claim("chat.example", "/api"), Claim("*", "/")])
    assert table.find("chat.example", "/api/x") == 0
    assert table.find("chat.example", "/other") == 1


def test_of_equal_routes_the_first_wins() -> None:
    assert RouteTable([Claim("*", "/a"), Claim("*", "/a/")]).find("x", "/a") == 0


def test_a_claim_on_the_kind_of_request_beats_a_longer_path_and_tls_decides_last() -> None:
    table = RouteTable([Claim(path="/chat/room"), Claim(scheme="ws"), Claim(scheme="ws", tls="yes"), Claim(tls="no")])
    assert table.find("x", "/chat/room") == 1
    assert table.find("x", "/chat/room", tls=True) == 2
    assert table.find("x", "/chat/room", websocket=False) == 0
    assert table.find("x", "/", websocket=False) == 3
    assert table.find("x", "/", websocket=False, tls=True) is None


def test_prefixes_may_end_anywhere() -> None:
    table = RouteTable([Claim(path="/chat", whole_segments=False)])
    assert table.find("x", "/chatty") == 0
    assert table.find("x", "/cha") is None


def test_paths_are_rewritten() -> None:
    whole, plain = Claim(path="/chat/"), Claim(path="/chat", whole_segments=False)
    assert rewritten("/chat/room", whole) == "/chat/room"
    assert rewritten("/chat/room", whole, remove=5) == "/room"
    assert rewritten("/chat/room", whole, remove=6) == "/room"
    assert rewritten("/chat", whole, remove=5) == "/"
    assert rewritten("/chat/room", whole, replace="/v2") == "/v2/room"
    assert rewritten("/chat", whole, replace="/v2") == "/v2"
    assert rewritten("/chatty", plain, replace="/v2/") == "/v2/ty"
    assert rewritten("/room", Claim(), replace="/v2") == "/v2/room"
    assert rewritten("/room", Claim(whole_segments=False), replace="/v2/") == "/v2/room"

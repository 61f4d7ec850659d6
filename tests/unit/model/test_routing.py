"""Hosts and paths to routes, against a plain reading of the rules."""

from hypothesis import given
from hypothesis import strategies as st

from edge.model.routing import RouteTable, bare_host, host_matches, path_matches

LABELS = st.sampled_from(["a", "b", "chat", "example"])
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.one_of(HOSTS, HOSTS.map("*.{}".format), st.just("*"))
PATHS = st.lists(st.sampled_from(["a", "ab", "b"]), max_size=4).map(lambda parts: "/" + "/".join(parts))


def claim(pattern: tuple[str, str], host: str, path: str) -> tuple[int, int, int] | None:
    """How well one pattern fits, straight from the rules."""
    wanted, prefix = pattern
    segments = [part for part in prefix.split("/") if part]
    if path.split("/")[1:][: len(segments)] != segments:
        return None
    if wanted == host:
        return 2, 0, len(segments)
    if wanted == "*":
        return 0, 0, len(segments)
    labels = wanted.split(".")[1:]
    if wanted.startswith("*.") and len(host.split(".")) > len(labels) and host.split(".")[-len(labels) :] == labels:
        return 1, len(labels), len(segments)
    return None


@given(st.lists(st.tuples(PATTERNS, PATHS), max_size=8), HOSTS, PATHS)
def test_the_strongest_claim_wins(patterns: list[tuple[str, str]], host: str, path: str) -> None:
    found = RouteTable(patterns).find(host, path)
    claims = [claim(pattern, host, path) for pattern in patterns]
    strongest = max((c for c in claims if c is not None), default=None)
    assert (None if found is None else claims[found]) == strongest


@given(st.lists(st.tuples(PATTERNS, PATHS), max_size=8), HOSTS, PATHS, st.integers(0, 65535))
def test_port_and_case_do_not_matter(patterns: list[tuple[str, str]], host: str, path: str, port: int) -> None:
    table = RouteTable(patterns)
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
    table = RouteTable([("chat.example", "/api"), ("*", "/")])
    assert table.find("chat.example", "/api/x") == 0
    assert table.find("chat.example", "/other") == 1


def test_of_equal_routes_the_first_wins() -> None:
    assert RouteTable([("*", "/a"), ("*", "/a/")]).find("x", "/a") == 0

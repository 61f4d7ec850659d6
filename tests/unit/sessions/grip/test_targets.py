"""Where a request goes: the path and the Host header that a target sees."""

from __future__ import annotations

import pytest

from edge.config import GripRouteSettings, RouteSettings, TargetSettings
from edge.sessions.grip.targets import backend_host, backend_path


@pytest.mark.parametrize(
    ("grip", "url", "asked", "expected"),
    [
        (GripRouteSettings(), "http://b", "/chat/room", "/chat/room"),
        (GripRouteSettings(), "http://b/app/", "/chat/room", "/app/chat/room"),
        (GripRouteSettings(path_remove=5), "http://b", "/chat/room", "/room"),
        (GripRouteSettings(path_remove=6), "http://b", "/chat/room", "/room"),
        (GripRouteSettings(path_remove=50), "http://b", "/chat/room", "/"),
        (GripRouteSettings(path_replace="/v2"), "http://b", "/chat/room", "/v2/room"),
        (GripRouteSettings(path_replace="/v2"), "http://b", "/chat", "/v2"),
        (GripRouteSettings(path_remove=5, path_replace="/v2"), "http://b/x", "/chat/room", "/x/v2/room"),
    ],
)
def test_a_path_is_rewritten_by_the_route_and_then_put_behind_that_of_the_target(
    grip: GripRouteSettings, url: str, asked: str, expected: str
) -> None:
    assert backend_path(RouteSettings(path="/chat", grip=grip), TargetSettings(url), asked) == expected


def test_the_test_backend_has_its_resources_below_the_route() -> None:
    for path, asked, expected in (("/", "/ws", "/ws"), ("/try", "/try/ws", "/ws"), ("/try/", "/try/", "/")):
        assert backend_path(RouteSettings(path=path), TargetSettings("test"), asked) == expected


def test_the_host_header_is_the_most_particular_one_that_was_given() -> None:
    route = RouteSettings(grip=GripRouteSettings(host="route.example"))
    assert backend_host(route, TargetSettings("http://b:1", host="target.example"), "c") == "target.example"
    assert backend_host(route, TargetSettings("http://b:1"), "c") == "route.example"
    assert backend_host(RouteSettings(), TargetSettings("http://b:1"), "client.example:8") == "client.example:8"
    assert backend_host(RouteSettings(), TargetSettings("http://u:p@b:1/x"), "") == "b:1"

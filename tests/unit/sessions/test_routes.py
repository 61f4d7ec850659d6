"""What a reload does to the routes under live connections."""

from edge.config import LimitSettings, RouteSettings
from edge.sessions.routes import Routes
from edge.telemetry.metrics import Metrics


def test_a_reload_keeps_the_handles_of_routes_that_stay() -> None:
    routes = Routes([RouteSettings(path="/a"), RouteSettings(path="/b")], Metrics())
    a, b = routes.find("x", "/a"), routes.find("x", "/b/c")
    assert a is not None
    assert b is not None
    a.addresses.enter("1.2.3.4", 0)
    strict = LimitSettings(message_bytes=5)
    routes.replace([RouteSettings(path="/a", limits=strict), RouteSettings(path="/new")])
    assert routes.find("x", "/a") is a
    assert a.settings.limits is strict
    assert len(a.addresses) == 1
    assert routes.find("x", "/b") is None
    assert b.settings.path == "/b"
    assert routes.find("x", "/new") is not None
    assert [handle.name for handle in routes] == ["*/a", "*/new"]


def test_another_app_under_the_same_name_is_another_route() -> None:
    routes = Routes([RouteSettings(app="one")], Metrics())
    before = routes.find("x", "/")
    routes.replace([RouteSettings(app="two")])
    assert routes.find("x", "/") is not before


def test_a_route_of_another_protocol_or_name_is_another_route() -> None:
    routes = Routes([RouteSettings(), RouteSettings(path="/b", id="one")], Metrics())
    before = [routes.find("x", path) for path in ("/", "/b")]
    routes.replace([RouteSettings(protocol="grip"), RouteSettings(path="/b", id="two")])
    assert [routes.find("x", path) in before for path in ("/", "/b")] == [False, False]


def test_what_kind_of_request_it_is_decides() -> None:
    routes = Routes([RouteSettings(scheme="ws"), RouteSettings(scheme="http", tls="yes")], Metrics())
    websocket, page = routes.find("x", "/"), routes.find("x", "/", websocket=False, tls=True)
    assert websocket is not None
    assert page is not None
    assert (websocket.name, page.name) == ("*/ ws", "*/ http tls")
    assert routes.find("x", "/", websocket=False) is None

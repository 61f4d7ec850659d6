"""The table of endpoints. Routes, the OpenAPI document, the index page and the list of open paths all come from it."""

from __future__ import annotations

from collections.abc import Sequence

from edge.control import channels, items, process, releases, sessions
from edge.control.context import Endpoint, Parameter

_RELEASE = "/v1/apps/{app}/releases/{sha}"
_SESSION_ERRORS = (404, 410, 503)

ENDPOINTS: Sequence[Endpoint] = (
    Endpoint(
        "POST",
        "/v1/channels/{channel}/publications",
        "Publish to a channel.",
        channels.publish,
        {200: "Published"},
        (400, 408, 413, 415, 503),
        body="NewPublication",
    ),
    Endpoint(
        "GET",
        "/v1/channels/{channel}",
        "A channel: subscribers over all edges, newest position.",
        channels.channel,
        {200: "Channel"},
        (400, 503),
    ),
    Endpoint(
        "GET",
        "/v1/channels/{channel}/history",
        "Publications after a position, oldest first; without one, the newest.",
        channels.history,
        {200: "History"},
        (400, 503),
        (
            Parameter("offset", "read on behind this offset, of this epoch", "integer"),
            Parameter("epoch", "which life of the channel the offset is from"),
            Parameter("limit", "publications at most, 1 to 1000; 100 when absent", "integer"),
        ),
    ),
    Endpoint(
        "POST",
        "/publish",
        "Publish items to the channels of GRIP routes, as to Pushpin.",
        items.publish_items,
        {200: "ItemsPublished"},
        (400, 406, 408, 413, 503),
        body="Items",
        publishing=True,
        also="/publish/",
    ),
    Endpoint(
        "POST",
        "/recover",
        "Forget the newest ids of GRIP channels, and ask backends what their clients may have missed.",
        items.recover,
        {200: "Message"},
        (406, 503),
        publishing=True,
        also="/recover/",
    ),
    Endpoint(
        "GET",
        "/v1/sessions",
        "Sessions of a user, over all edges.",
        sessions.sessions_of_user,
        {200: "Sessions"},
        (400, 503),
        (Parameter("user", "as set by `identify`", required=True),),
    ),
    Endpoint(
        "GET", "/v1/sessions/{session}", "A session.", sessions.session, {200: "Session"}, (400, *_SESSION_ERRORS)
    ),
    Endpoint(
        "DELETE",
        "/v1/sessions/{session}",
        "Close the client's connection and end the session.",
        sessions.end,
        {200: "Outcome"},
        (400, *_SESSION_ERRORS, 409, 504),
        (
            Parameter("code", "close code: 1000 (when absent), 1008, 1011–1013, 3000–4999", "integer"),
            Parameter("reason", "up to 123 bytes"),
        ),
    ),
    Endpoint(
        "POST",
        "/v1/sessions/{session}/actions",
        "Act on a session, wherever it lives.",
        sessions.act,
        {200: "Outcome"},
        (400, *_SESSION_ERRORS, 408, 409, 413, 415, 504),
        body="Order",
    ),
    Endpoint(
        "GET",
        "/v1/apps/{app}/releases",
        "All releases of an app.",
        releases.releases,
        {200: "Releases"},
        (400, 404, 503),
    ),
    Endpoint("GET", _RELEASE, "One release.", releases.release, {200: "Release"}, (400, 404, 503)),
    Endpoint(
        "PUT",
        _RELEASE,
        "Add a release, or move it to another URL.",
        releases.put,
        {200: "Release"},
        (400, 403, 404, 409, 408, 413, 415, 503),
        body="NewRelease",
    ),
    Endpoint(
        "DELETE",
        _RELEASE,
        "Forget a release that is not current.",
        releases.delete,
        {200: "Releases"},
        (400, 404, 409, 503),
    ),
    Endpoint(
        "POST",
        _RELEASE + "/promote",
        "Make a release the current one.",
        releases.promote,
        {200: "Release"},
        (400, 404, 409, 503),
    ),
    Endpoint(
        "POST",
        _RELEASE + "/retire",
        "Let no session go to a release any more.",
        releases.retire,
        {200: "Release"},
        (400, 404, 409, 503),
    ),
    Endpoint("POST", "/v1/drain", "Do what SIGTERM does: go down politely.", process.drain, {202: "Draining"}),
    Endpoint("GET", "/livez", "The process is alive.", process.livez, {200: "Alive"}, open=True),
    Endpoint(
        "GET",
        "/readyz",
        "May new connections come here, and if not, why.",
        process.readyz,
        {200: "Readiness", 503: "Readiness"},
        open=True,
    ),
    Endpoint("GET", "/metrics", "Prometheus metrics of all workers.", process.metrics, {200: "text/plain"}),
)

"""What README, SPEC and their neighbours say is held to what is there."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from backend_sdk import App
from backend_sdk.testing import TestEdge
from edge.config.groups import (
    ChannelSettings,
    EdgeSettings,
    GripRouteSettings,
    GripSettings,
    LimitSettings,
    PoolSettings,
    PublisherSettings,
    RouteSettings,
    Secret,
    TargetSettings,
    TimeoutSettings,
    XmppSettings,
)
from edge.config.schema import FLAGS, ROUTE_GROUPS
from edge.protocol.callbacks.check import CLOSE_CODES
from edge.protocol.callbacks.events import CLOSE_CAUSES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SPEC = (ROOT / "edge/protocol/callbacks/SPEC.md").read_text()

SECTIONS: dict[str, type] = {
    "[edge]": EdgeSettings,
    "[[route]]": RouteSettings,
    "[route.limits]": LimitSettings,
    "[route.timeouts]": TimeoutSettings,
    "[route.pool]": PoolSettings,
    "[route.grip]": GripRouteSettings,
    "[[route.target]]": TargetSettings,
    "[[channel]]": ChannelSettings,
    "[grip]": GripSettings,
    "[[publisher]]": PublisherSettings,
    "[[xmpp]]": XmppSettings,
}


def table(heading: str) -> dict[str, str]:
    """Setting → default, as the README's table under ``### `heading` `` has them."""
    section = README.split(f"### `{heading}`\n", 1)[1].split("\n#", 1)[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return {name.strip("|` "): default for name, default, *_ in rows}


def shown(field: Field[Any]) -> str:
    """A default as the README writes it."""
    match field.default:
        case _ if field.default is MISSING or field.name == "backend":
            return "required"
        case "" | () | None:
            return "none"
        case Secret(value):
            return f'`"{value}"`'
        case bool(flag):
            return f"`{str(flag).lower()}`"
        case int(number):
            return f"{number:,}"
        case float(number):
            return f"{number:,g}"
        case tuple(items):
            return f"`{json.dumps(items)}`"
        case text:
            return f'`"{text}"`'


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_setting_stands_in_the_readme_with_its_default(heading: str) -> None:
    groups = {*ROUTE_GROUPS, "targets"} if heading == "[[route]]" else set()
    expected = {field.name: shown(field) for field in fields(SECTIONS[heading]) if field.name not in groups}
    assert table(heading) == expected


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text())
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_verbs_and_flags_that_are_mentioned_exist() -> None:
    verbs = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = README + (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"[`\n]make ([a-z-]+)", text)) <= verbs
    assert set(re.findall(r"holdfast serve.* (--[a-z-]+)", README)) <= {*FLAGS.values(), "--config", "--help"}


async def test_the_backend_in_the_readme_runs() -> None:
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    namespace: dict[str, Any] = {}
    exec(compile(code[1], "README.md", "exec"), namespace)
    app = namespace["app"]
    assert isinstance(app, App)
    async with TestEdge(app) as edge:
        ada = await edge.connect(headers={"X-Name": "ada"})
        await ada.send("hello")
        bob = await edge.connect()
        await ada.close()
        assert ada.received == ["ada came in", "ada: hello", "somebody came in"]
        assert bob.received == ["somebody came in", "ada left"]


def types_of(module: str, base: str) -> set[str]:
    """The wire names in one of the protocol's tables, read from the code that speaks them."""
    source = (ROOT / "edge/protocol/callbacks" / module).read_text()
    return set(re.findall(base, source))


def test_the_specification_names_every_event_action_cause_and_close_code() -> None:
    events = types_of("wire.py", r'"type": "([a-z]+)"')
    actions = types_of("check.py", r'"([a-z_]+)": _parse_') | types_of("check_xmpp.py", r'"(xmpp\.[a-z_]+)": _parse_')
    assert {"open", "message", "close"} < events
    assert {"accept", "send", "cancel_timer", "xmpp.send"} < actions
    for name in events | actions:
        assert f"| `{name}` |" in SPEC or f"`{name}`, `" in SPEC, name
    for cause in CLOSE_CAUSES:
        assert f"`{cause}` (" in SPEC or f"`{cause}`," in SPEC or f"`{cause}`." in SPEC, cause
    assert sorted(CLOSE_CODES) == [1000, 1008, 1011, 1012, 1013]
    assert "1000, 1008, 1011–1013, 3000–4999" in SPEC


def test_the_choices_of_settings_are_named() -> None:
    kinds = dict.fromkeys(("policy", "encoding", "protocol"), RouteSettings) | {"log_level": EdgeSettings}
    for field, kind in kinds.items():
        row = next(line for line in README.splitlines() if line.startswith(f"| `{field}` |"))
        choices = get_args(get_type_hints(kind)[field])
        assert len(choices) > 1
        assert [choice for choice in choices if f"`{choice}`" not in row] == []

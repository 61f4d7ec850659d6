"""JSON Schemas of what is said about releases."""

from __future__ import annotations

from collections.abc import Mapping

from edge.control.schema_parts import (
    NUMBER,
    NUMBER_OR_NULL,
    TEXT,
    WHOLE,
    WHOLE_OR_NULL,
    YES_NO,
    Schema,
    array,
    named,
    object_of,
)

_HOW: Schema = {"type": "string", "enum": ["now", "over", "when-idle", "at-most"]}
_STATE: Schema = {"type": "string", "enum": ["warming", "active", "draining", "empty"]}
_OUTCOME: Schema = {"type": "string", "enum": ["running", "done", "rolled-back", "stopped"]}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


RELEASE_SCHEMAS: Mapping[str, Schema] = {
    "NewRelease": object_of(
        "Where the release is: a URL that the route setting release_urls allows. `health`: a path that must answer "
        "2xx (without one, anything below 500 at the URL will do), `checks` times in a row. `cohorts`: rules such as "
        "header:X-Beta=1, cookie:beta, query:beta=1, claim:plan=gold, user:ann,bob, percent:5.",
        {"url": TEXT, "health": TEXT, "checks": WHOLE, "cohorts": array(TEXT)},
        optional=["health", "checks", "cohorts"],
    ),
    "Promotion": object_of(
        "`notice`: what clients that move are sent, as a text message.", {"notice": TEXT}, ["notice"]
    ),
    "Retirement": object_of(
        "How sessions leave: `now` (when absent); `over` for_ms, each at a moment of its own; `when-idle`, when "
        "nothing of it has happened for for_ms; `at-most` for_ms, those that have not ended by then. `at_most_ms`: the "
        "latest end of any of these. `notice`: a text message for the clients.",
        {"how": _HOW, "for_ms": WHOLE, "at_most_ms": WHOLE, "notice": TEXT},
        optional=["how", "for_ms", "at_most_ms", "notice"],
    ),
    "Cohorts": object_of("Rules, instead of those that were there.", {"rules": array(TEXT)}),
    "Weights": object_of(
        "Whole numbers in proportion; the sum must not be 0.",
        {"weights": {"type": "object", "additionalProperties": WHOLE}},
    ),
    "NewCanary": object_of(
        "Percents in growing order, and how long each lasts. It is rolled back when, after `min_events` events of a "
        "step (20), more than `max_error_rate` of them failed (0.01; null: any may), or the slowest hundredth took "
        "longer than `max_p99_ms` (null: as long as it likes).",
        {
            "steps": array(WHOLE),
            "every_ms": WHOLE,
            "max_error_rate": NUMBER_OR_NULL,
            "max_p99_ms": WHOLE_OR_NULL,
            "min_events": WHOLE,
        },
        optional=["max_error_rate", "max_p99_ms", "min_events"],
    ),
    "NewShadow": object_of("Percent of the sessions whose events it is shown.", {"share": NUMBER}),
    "Release": object_of(
        "One deployed version. `share`: percent of the sessions without a cohort that go to it. `sessions`: over all "
        "edges; null: not every edge has answered. `configured`: it comes from the configuration. Times: ms since the "
        "epoch.",
        {
            "sha": TEXT,
            "url": TEXT,
            "state": _STATE,
            "current": YES_NO,
            "configured": YES_NO,
            "weight": WHOLE,
            "share": NUMBER,
            "sessions": WHOLE_OR_NULL,
            "cohorts": array(TEXT),
            "added_at": WHOLE_OR_NULL,
            "health": object_of("", {"path": TEXT, "passed": WHOLE, "needed": WHOLE, "error": TEXT}),
            "retirement": _or_null(
                object_of(
                    "",
                    {
                        "how": _HOW,
                        "since": WHOLE,
                        "for_ms": WHOLE,
                        "at_most_ms": WHOLE,
                        "until": WHOLE_OR_NULL,
                        "notice": TEXT,
                    },
                )
            ),
            "emptied_at": WHOLE_OR_NULL,
        },
    ),
    "Canary": object_of(
        "The canary that runs, or how the last one ended, and why.",
        {
            "sha": TEXT,
            "steps": array(WHOLE),
            "step": WHOLE,
            "share": NUMBER,
            "every_ms": WHOLE,
            "max_error_rate": NUMBER_OR_NULL,
            "max_p99_ms": WHOLE_OR_NULL,
            "min_events": WHOLE,
            "step_at": WHOLE,
            "outcome": _OUTCOME,
            "reason": TEXT,
        },
    ),
    "Shadow": object_of(
        "Who is shown how many percent of the sessions, and how its answers compare with the live release's, in events "
        "since it was set: seen ones are same, different, failed (no answer that holds) or dropped (no room).",
        {
            "sha": TEXT,
            "share": NUMBER,
            "seen": WHOLE,
            "same": WHOLE,
            "different": WHOLE,
            "failed": WHOLE,
            "dropped": WHOLE,
            "differences": array(object_of("", {"session": TEXT, "event": TEXT, "live": TEXT, "shadow": TEXT})),
        },
    ),
    "Releases": object_of(
        "All releases of an app. `version` rises with each change. Not `complete`: an edge did not say how many "
        "sessions it has in time.",
        {
            "app": TEXT,
            "version": WHOLE,
            "current": TEXT,
            "complete": YES_NO,
            "releases": array(named("Release")),
            "canary": _or_null(named("Canary")),
            "shadow": _or_null(named("Shadow")),
        },
    ),
}

from __future__ import annotations

from edge.ids import new_session_id


def test_a_session_id_can_be_an_argument_of_a_command() -> None:
    ids = {new_session_id() for _ in range(5_000)}  # one in 64 began with a dash: `holdfast why -zN1…` was no session
    assert len(ids) == 5_000
    assert [id for id in ids if id.startswith("-") or ":" in id or len(id) != 16] == []

"""Line numbers of keys, over the whole of TOML's syntax."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edge.config.toml_lines import KeyLines

TEXT = '''# a comment with [brackets] and "quotes
top = 1

[edge] # comment
listen = [
  "a]", # ] in a comment
  """b
]""",
]
"quoted key" = 'single # not a comment'
dotted.key = 1
inline = { a = 1, b = [ "}" ] }
text = """
[not.a.table]
key = "no"
"""
raw = \'\'\'
x = 1 \'\'\'
[[route]]
backend = "x"
[route.limits]
headers = 1
[[route]]
backend = "y"
limits.headers = 2
[[route.deep]]
x = 1
[[route.deep]]
x = 2
["quoted.table".inner]
last = 1'''


def test_every_construct() -> None:
    tomllib.loads(TEXT)
    lines = KeyLines(TEXT)
    text_lines = TEXT.split("\n")

    def at(*path: str | int) -> str:
        line = lines.line(path)
        assert line is not None
        return text_lines[line - 1]

    assert at("top") == "top = 1"
    assert at("edge") == "[edge] # comment"
    assert at("edge", "listen") == "listen = ["
    assert at("edge", "listen", 1) == "listen = ["
    assert at("edge", "quoted key").startswith('"quoted key"')
    assert at("edge", "dotted", "key") == "dotted.key = 1"
    assert at("edge", "inline", "b").startswith("inline")
    assert at("edge", "text") == 'text = """'
    assert at("edge", "raw").startswith("raw")
    assert lines.line(("route", 0)) == text_lines.index("[[route]]") + 1
    assert at("route", 0, "limits", "headers") == "headers = 1"
    assert at("route", 1, "backend") == 'backend = "y"'
    assert at("route", 1, "limits", "headers") == "limits.headers = 2"
    assert at("route", 1, "deep", 0, "x") == "x = 1"
    assert at("route", 1, "deep", 1, "x") == "x = 2"
    assert at("quoted.table", "inner", "last") == "last = 1"
    assert at("edge", "not there") == "[edge] # comment"
    assert lines.line(("nowhere",)) is None


VALUES = st.sampled_from(
    ["1", '"a # b"', "'[x]'", "[\n 1, # one\n 2]", '"""\nk = 1\n[t]\n"""', "{ a = 1 }", '"\\""', "2020-01-01"]
)


@given(st.lists(st.tuples(st.sampled_from(["[a]", "[b]", "[[c]]", ""]), VALUES, st.booleans()), max_size=12))
def test_every_key_of_any_file_is_found_on_its_line(parts: list[tuple[str, str, bool]]) -> None:
    text, expected, table, seen = "", {}, "", dict.fromkeys("abc", -1)
    for number, (header, value, comment) in enumerate(parts):
        name = header.strip("[]")
        if header and (name == "c" or seen[name] < 0):
            seen[name] += 1
            text += f"{header}{' # [x]' if comment else ''}\n"
            table = name
        expected[number] = (table, text.count("\n") + 1, seen.get(table, 0))
        text += f"key{number} = {value}{' # x = 1' if comment else ''}\n"
    document: dict[str, Any] = tomllib.loads(text)
    lines = KeyLines(text)
    for number, (table, line, index) in expected.items():
        prefix: tuple[str | int, ...] = (table,) if table else ()
        if table == "c":
            prefix = ("c", index)
            assert f"key{number}" in document["c"][index]
        assert lines.line((*prefix, f"key{number}")) == line

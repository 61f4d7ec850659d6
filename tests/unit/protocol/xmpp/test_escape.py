"""Escaping: another parser reads what was written."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import WireError
from edge.protocol.xmpp.escape import attribute, text

VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n\r<>&\"']")).filter(
    lambda value: not re.search("[\ufffe\uffff]", value)
)


@given(VALUES)
def test_what_is_written_is_read_back(value: str) -> None:
    element = ElementTree.fromstring(f"<a b='{attribute(value)}' c=\"{attribute(value)}\">{text(value)}</a>")
    assert element.attrib == {"b": value, "c": value}
    assert (element.text or "") == value
    assert len(element) == 0


@pytest.mark.parametrize("value", ["\x00", "a\x0bb", "\x1f", "\ufffe", "\uffff", "\ud800"])
def test_characters_that_xml_has_not(value: str) -> None:
    for write in (text, attribute):
        with pytest.raises(WireError, match="U\\+"):
            write(value)

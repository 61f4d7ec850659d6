"""Framing: any cut of a stream is heard alike, each element keeps its bytes, and nothing a peer sends costs much."""

from __future__ import annotations

import contextlib
import itertools
import random
import tracemalloc
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.protocol.xmpp import names
from edge.protocol.xmpp.framing import Element, Ended, Framer, Heard, Opened, StreamLimits, StreamViolation

LIMITS = StreamLimits()
SMALL = StreamLimits(stanza_bytes=200, header_bytes=200, depth=3, attributes=3)
HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
    b"id='s1' from='chat.example' version='1.0' xml:lang='en'>"
)
OPENED = Opened(
    "stream",
    names.STREAMS,
    {"id": "s1", "from": "chat.example", "version": "1.0", "xml:lang": "en"},
    {"": names.CLIENT, "stream": names.STREAMS},
)


def hear(*chunks: bytes, limits: StreamLimits = LIMITS) -> tuple[list[Heard], str]:
    """What is heard, and the condition if the peer broke a rule."""
    framer = Framer(limits)
    heard: list[Heard] = []
    try:
        for chunk in chunks:
            heard += framer.feed(chunk)
    except StreamViolation as violation:
        return heard + list(violation.heard), violation.condition
    return heard, ""


def bytewise(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


def elements(*raws: bytes, limits: StreamLimits = LIMITS) -> list[Element]:
    heard, condition = hear(HEADER, *raws, limits=limits)
    assert condition == ""
    return [item for item in heard[1:] if isinstance(item, Element)]


def condition_of(raw: bytes, limits: StreamLimits = LIMITS) -> str:
    return hear(HEADER + raw, limits=limits)[1]


STANZAS = st.sampled_from([
    b"<message from='a@b/c' type='chat'><body>hi</body></message>",
    b"<presence/>",
    b"<presence></presence>",
    b"<presence\n/>",
    b"<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
    b"<a xmlns='urn:xmpp:sm:3' h='3'/>",
    b"<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>",
    b"<message><body>&lt;&amp;&#x20AC;&#128512; \xe2\x82\xac\xf0\x9f\x98\x80 > /> </body></message>",
    b"<message a='>/>' b=\"'/>\" ><x y='&lt;/message>'/>></message>",
    b"<message>></message>",
    b"<message><![CDATA[</message>]]></message>",
    b"<p:message xmlns:p='jabber:client'><p:body/></p:message>",
    b"<message xml:lang='de' xmlns:q='urn:q' q:a='1'><b><b><b/></b></b></message>",
])  # fmt: skip
NOISE = st.sampled_from([
    b"", b"", b" ", b"\n\t", b"x", b">", b"<", b"&lt;", b"&#32;", b"&x;", b"<!-- c -->", b"<?pi?>",
    b"<?xml version='1.0'?>",
    b"<![CDATA[ ]]>", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"</stream:stream>", b"</message>", b"\xff", b"\xc3", b"\x00",
    b"<a:b/>",
    b"<message a='1' a='2'/>", b"<a><b><c><d/></c></b></a>", b"<a b='' c='' d='' e=''/>", b"<a>" + b"x" * 210,
    b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", b"<message><body>", b"<message a='>", b"\xef\xbb\xbf",
])  # fmt: skip


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Streams that mostly keep the rules."""
    parts = [draw(st.sampled_from([HEADER, HEADER, HEADER, b"<s xmlns='q'>", b"", b"\n" + HEADER, b"<stream/>"]))]
    for _ in range(draw(st.integers(0, 6))):
        parts += [draw(NOISE) if draw(st.integers(0, 3)) == 0 else b"", draw(STANZAS)]
    if draw(st.booleans()):
        parts.append(draw(NOISE))
    return b"".join(parts)


@given(streams(), st.lists(st.integers(0, 400), max_size=8), st.sampled_from([LIMITS, SMALL]))
@example(HEADER + b"<presence/></stream:stream>", [len(HEADER) + 10], LIMITS)
@example(HEADER + b"<a/>x<!-- c -->", [], LIMITS)
@settings(max_examples=300)
def test_every_cut_is_heard_alike(stream: bytes, cuts: list[int], limits: StreamLimits) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[low:high] for low, high in itertools.pairwise(bounds)]
    whole = hear(stream, limits=limits)
    assert hear(*pieces, limits=limits) == whole
    assert hear(*bytewise(stream), limits=limits) == whole


def test_every_place_for_two_cuts() -> None:
    stream = HEADER + b"<a b='>'/> <c>&lt;</c><presence/></stream:stream>"
    whole = hear(stream)
    assert [type(item) for item in whole[0]] == [Opened, Element, Element, Element, Ended]
    for first, second in itertools.combinations(range(len(HEADER) - 3, len(stream)), 2):
        assert hear(stream[:first], stream[first:second], stream[second:]) == whole


@given(st.lists(st.tuples(STANZAS, st.sampled_from([b"", b" ", b"\r\n"])), max_size=8), st.randoms())
def test_elements_keep_their_bytes(stanzas: list[tuple[bytes, bytes]], order: random.Random) -> None:
    stream = HEADER + b"".join(stanza + space for stanza, space in stanzas)
    cut = order.randrange(len(stream))
    heard, condition = hear(stream[:cut], stream[cut:])
    assert condition == ""
    assert heard[0] == OPENED
    assert [item.raw for item in heard[1:] if isinstance(item, Element)] == [stanza for stanza, _ in stanzas]


@given(STANZAS)
def test_children_are_those_that_another_parser_finds(raw: bytes) -> None:
    def same(ours: Element, theirs: ElementTree.Element, limit: int = 0) -> None:
        assert theirs.tag == (f"{{{ours.namespace}}}{ours.name}" if ours.namespace else ours.name)
        expected = {key.replace(f"{{{names.XML}}}", "xml:"): value for key, value in theirs.attrib.items()}
        assert dict(ours.attributes) == expected
        assert ours.text() == "".join([theirs.text or "", *(child.tail or "" for child in theirs)])
        assert len(ours.children()) == len(theirs)
        for mine, other in zip(ours.children(), theirs, strict=True):
            assert mine.raw in ours.raw
            same(mine, other)

    (element,) = elements(raw)
    wrapped = ElementTree.fromstring(HEADER + raw + b"</stream:stream>")
    same(element, wrapped[0])


def test_names_attributes_and_what_is_inside() -> None:
    (message,) = elements(
        b"<message xmlns:q='urn:q' q:a='1' id='2'>x<body>a&amp;b</body>y"
        b"<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body/></message></forwarded></message>"
    )
    assert (message.name, message.namespace) == ("message", names.CLIENT)
    assert message.attributes == {"{urn:q}a": "1", "id": "2"}
    assert message.text() == "xy"
    body, forwarded = message.children()
    assert message.child("body") is body
    assert message.child("forwarded") is None
    assert message.child("forwarded", "urn:xmpp:forward:0") is forwarded
    assert body.text() == "a&b"
    assert forwarded.children()[0].raw == b"<message xmlns='jabber:client'><body/></message>"


def test_an_element_without_a_namespace() -> None:
    heard, _ = hear(b"<s><a/><b xmlns='q'/>")
    assert [(item.name, item.namespace) for item in heard if isinstance(item, Element)] == [("a", ""), ("b", "q")]


@pytest.mark.parametrize(
    ("raw", "condition"),
    [
        (b"<!DOCTYPE s [<!ENTITY a 'b'>]>", "not-well-formed"),  # not even XML in this place
        (b"<!-- c -->", "restricted-xml"),
        (b"<a><!-- c --></a>", "restricted-xml"),
        (b"<?pi x?>", "restricted-xml"),
        (b"<a>&lol;</a>", "restricted-xml"),
        (b"<a b='&lol;'/>", "restricted-xml"),
        (b"<a></b>", "not-well-formed"),
        (b"<a b='1' b='2'/>", "not-well-formed"),
        (b"<a>\x00</a>", "not-well-formed"),
        (b"<a>&#0;</a>", "not-well-formed"),
        (b"<a>\xff</a>", "not-well-formed"),
        (b"<a>\xed\xa0\x80</a>", "not-well-formed"),  # a surrogate
        (b"<x:a/>", "bad-namespace-prefix"),
        (b"text", "not-well-formed"),
        (b"<a/>text<a/>", "not-well-formed"),
        (b"<a/>&#32;<a/>", "not-well-formed"),
        (b"<a/><![CDATA[ ]]><a/>", "not-well-formed"),
    ],
)
def test_what_a_stream_may_not_contain(raw: bytes, condition: str) -> None:
    assert condition_of(raw) == condition
    assert hear(HEADER, *bytewise(raw))[1] == condition


def test_entities_cannot_be_declared_anywhere() -> None:
    bomb = b"<!DOCTYPE b [<!ENTITY a0 'ha'>" + b"".join(
        b"<!ENTITY a%d '%s'>" % (n + 1, b"&a%d;" % n * 10) for n in range(12)
    )
    assert hear(b"<?xml version='1.0'?>" + bomb + b"]><b>&a12;</b>") == ([], "restricted-xml")
    assert hear(HEADER + bomb + b"]><b>&a12;</b>") == ([OPENED], "not-well-formed")
    assert hear(b"<!DOCTYPE s SYSTEM 'file:///etc/passwd'><s>")[1] == "restricted-xml"


@pytest.mark.parametrize(
    ("header", "condition"),
    [
        (b"<?xml version='1.0' encoding='ISO-8859-1'?><s>", "unsupported-encoding"),
        (b"<?xml version='1.0' encoding='utf-8'?><s>", ""),
        ("<s a='>'>".encode("utf-16"), "not-well-formed"),
        (b"HTTP/1.1 400 Bad Request\r\n", "not-well-formed"),
        (b"<s a='" + b"x" * 9000 + b"'>", "policy-violation"),
        (b"<s " + b" ".join(b"a%d=''" % n for n in range(65)) + b">", "policy-violation"),
    ],
)
def test_headers(header: bytes, condition: str) -> None:
    assert hear(header)[1] == condition
    assert hear(*bytewise(header))[1] == condition


@pytest.mark.parametrize("depth", [64, 65])
def test_depth(depth: int) -> None:
    raw = b"<a>" * depth + b"</a>" * depth
    assert condition_of(raw) == ("" if depth == 64 else "policy-violation")


def test_nesting_without_an_end_is_stopped_early() -> None:
    assert condition_of(b"<a>" * 100_000) == "policy-violation"


@pytest.mark.parametrize("count", [64, 65])
@pytest.mark.parametrize("inside", [True, False])
def test_attributes(count: int, inside: bool) -> None:
    raw = b"<a %s/>" % b" ".join(b"a%d=''" % n for n in range(count))
    assert condition_of(b"<m>%s</m>" % raw if inside else raw) == ("" if count == 64 else "policy-violation")


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("piece", [1 << 20, 16_384, 999])
@pytest.mark.parametrize("filling", [b"x", b">", b"<b/>"])
def test_size(extra: int, piece: int, filling: bytes) -> None:
    room = LIMITS.stanza_bytes - len(b"<m></m>")
    raw = b" <m>" + (filling * room)[: room - room % len(filling)]
    raw += b"x" * (room - (len(raw) - 4) + extra) + b"</m>"
    pieces = [raw[at : at + piece] for at in range(0, len(raw), piece)]
    heard, condition = hear(HEADER, b"<presence/>", *pieces, b"<presence/>")
    assert condition == ("policy-violation" if extra else "")
    assert len(heard) == (2 if extra else 4)


def test_an_element_that_never_ends_is_not_collected() -> None:
    framer = Framer(LIMITS)
    framer.feed(HEADER)
    framer.feed(b"<m a='")
    for _ in range(63):
        framer.feed(b"x" * 4096)
    with pytest.raises(StreamViolation, match="too large"):
        framer.feed(b"x" * 4096)
    assert framer.unread == 0


def test_what_was_whole_before_a_violation_is_told() -> None:
    framer = Framer(LIMITS)
    with pytest.raises(StreamViolation) as caught:
        framer.feed(HEADER + b"<presence/><!-- -->")
    assert [type(item) for item in caught.value.heard] == [Opened, Element]
    with pytest.raises(StreamViolation) as again:
        framer.feed(b"<presence/>")
    assert list(again.value.heard) == []
    assert again.value.condition == "restricted-xml"


def test_nothing_is_heard_after_the_end() -> None:
    heard, condition = hear(HEADER + b"</stream:stream> <a/>&", b"<!-- -->")
    assert heard == [OPENED, Ended()]
    assert condition == ""
    assert hear(b"<s xmlns='q'/>x")[0] == [Opened("s", "q", {}, {"": "q"}), Ended()]


SUCCESS = b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>dj0=</success>"


@given(st.integers(0, len(SUCCESS + HEADER) + 4), st.booleans())
def test_a_restart_begins_a_new_parser(cut: int, early: bool) -> None:
    framer = Framer(LIMITS)
    framer.feed(HEADER)
    data = SUCCESS + HEADER + b"<a/>"
    heard = framer.feed(data[:cut])
    if early:
        heard += framer.feed(data[cut:])
        assert [type(item) for item in heard] == [Element]
        assert framer.unread == len(HEADER + b"<a/>")
        framer.restart()
        heard += framer.feed(b"")
    else:
        if cut >= len(SUCCESS):
            framer.restart()
            heard += framer.feed(data[cut:])
        else:
            heard += framer.feed(data[cut:])
            framer.restart()
            heard += framer.feed(b"")
    assert [type(item) for item in heard] == [Element, Opened, Element]
    assert isinstance(heard[0], Element)
    assert heard[0].raw == SUCCESS


def test_what_comes_before_a_restart_is_bounded() -> None:
    framer = Framer(LIMITS)
    framer.feed(HEADER + SUCCESS)
    for _ in range(21):
        framer.feed(b"<s>" * 4096)
    with pytest.raises(StreamViolation, match="begun again"):
        framer.feed(b"<s>" * 4096)


def test_white_space_keeps_nothing() -> None:
    framer = Framer(LIMITS)
    framer.feed(HEADER)
    for space in (b" ", b"\n" * 300_000, b"<presence/>  \n"):
        framer.feed(space)
        assert framer.unread == 0


def test_idle_streams_are_small_whatever_names_they_have_seen() -> None:
    framers = [Framer(LIMITS) for _ in range(500)]
    for framer in framers:
        framer.feed(HEADER)
        framer.feed(b"<presence/>")
    tracemalloc.start()
    try:
        for number in range(5_000):
            framers[number % 500].feed(
                b"<message><x%d a%d='1' xmlns:p%d='urn:%d'/></message>" % (number, number, number, number)
            )
        assert tracemalloc.get_traced_memory()[0] < 150_000  # the one parser that they share
    finally:
        tracemalloc.stop()


def test_an_element_that_is_not_whole_takes_little_more_than_its_bytes() -> None:
    for piece in (b"<b/>", b"<b>x</b>", b"xx<b/>", b"<b><c/></b>", b"\xf0\x9f\x98\x80" + b"x" * 8_000):
        framer = Framer(LIMITS)
        framer.feed(HEADER + b"<m>")
        tracemalloc.start()
        try:
            for _ in range(30):
                framer.feed(piece * (8_000 // len(piece)) + b"<b/>")
            assert tracemalloc.get_traced_memory()[0] < 700_000
        finally:
            tracemalloc.stop()


def seen(element: Element) -> object:
    """All that it has inside."""
    inside = [seen(child) for child in element.children()]
    return element.name, element.namespace, element.attributes, element.raw, element.context, element.text(), inside


def parsed(element: Element) -> object:
    """The same, of its bytes alone."""
    return seen(Element(element.name, element.namespace, element.attributes, element.raw, element.context))


@given(streams(), st.lists(st.integers(0, 400), max_size=8))
@settings(max_examples=200)
def test_what_is_inside_is_what_the_bytes_say_in_every_cut(stream: bytes, cuts: list[int]) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    for pieces in ([stream[low:high] for low, high in itertools.pairwise(bounds)], bytewise(stream)):
        for item in hear(*pieces)[0]:
            if isinstance(item, Element):
                assert seen(item) == parsed(item)


@pytest.mark.parametrize("piece", [1 << 20, 16_384, 999])
@pytest.mark.parametrize("inside", [b"<b/>" * 1_001, b"<c>%s</c>" % (b"x<b/>" * 1_001), b"x\n" * 50_000 + b"<b/>y"])
def test_what_is_much_is_there_all_the_same(inside: bytes, piece: int) -> None:
    raw = b"<m>" + inside + b"</m>"
    first, large, last = elements(b"<m/>", *(raw[at : at + piece] for at in range(0, len(raw), piece)), b"<m>z</m>")
    assert large.raw == raw
    assert seen(large) == parsed(large)
    assert (first.text(), first.children(), last.text(), last.children()) == ("", (), "z", ())


def test_streams_side_by_side_keep_to_themselves() -> None:
    headers = [
        HEADER,
        HEADER.replace(b"s1", b"s2"),
        HEADER.replace(b"jabber:client", b"jabber:server"),
        HEADER.replace(b"'s1'", b"""' xmlns="urn:no" '"""),
        b"<s xmlns:p='urn:p' a=\"xmlns='urn:no'\" xmlns = '&lt;&#9;q&quot;' p:a='1'>",
        b"<p:s xmlns:p='urn:other'\n>",
        *(b"<s xmlns='urn:%d'>" % number for number in range(10)),
    ]
    body = b"<a xmlns:r='urn:r' r:b='1'>x<r:c/>y</a> <b xml:lang='de'><c xmlns=''>&amp;</c></b>\n"
    alone = [hear(header + body * 3) for header in headers]
    framers = [Framer(LIMITS) for _ in headers]
    heard: list[list[Heard]] = [[] for _ in headers]
    for byte in range(max(map(len, headers)) + 3 * len(body)):
        for framer, mine, header in zip(framers, heard, headers, strict=True):
            mine += framer.feed((header + body * 3)[byte : byte + 1])
    assert [(mine, "") for mine in heard] == alone
    for mine in heard:
        for item in mine[1:]:
            assert isinstance(item, Element)
            assert seen(item) == parsed(item)


@pytest.mark.parametrize(
    "wrong", [b"</x>", b"<!-- -->", b"<a>&x;</a>", b"<a", b"<a><b>", b"</stream:stream>", b"\xff>"]
)
def test_what_is_wrong_in_one_stream_leaves_the_others_alone(wrong: bytes) -> None:
    for _ in range(3):
        framer = Framer(LIMITS)
        framer.feed(HEADER)
        framer.feed(b"<presence/>")
        with contextlib.suppress(StreamViolation):
            framer.feed(wrong)
        (presence,) = elements(b"<presence><x/></presence>")
        assert [child.raw for child in presence.children()] == [b"<x/>"]


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=300)
def test_any_bytes_end_in_a_violation_or_in_elements(data: bytes, opened: bool) -> None:
    whole = hear((HEADER if opened else b"") + data)
    assert hear(*bytewise((HEADER if opened else b"") + data)) == whole


@given(st.data(), st.integers(0, 2**32))
@settings(max_examples=150)
def test_a_flipped_byte_is_heard_alike_in_every_cut(data: st.DataObject, seed: int) -> None:
    stream = bytearray(HEADER + b"".join(data.draw(st.lists(STANZAS, min_size=1, max_size=4))))
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        stream[chance.randrange(len(stream))] = chance.choice(b"<>/'\"& =!?[]-x\x00\xc3")
    assert hear(*bytewise(bytes(stream))) == hear(bytes(stream))

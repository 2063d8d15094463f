"""What is sent to both REST doors, as data, and what comes back; docs/reference/abuse.md is made
from it.

An answer is told as the statuses in their order, and "closed" where the connection ends with them.
Behind every case follows one more request on the same connection: where nothing says "closed", its
answer was the next one.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass

from tests.abuse.wire import Part

MODEL = b"/v1/models/half_plus_two"
GOOD = b'{"instances": [1.0]}'


@dataclass(frozen=True)
class Case:
    group: str
    what: str
    parts: tuple[Part, ...]
    server: str
    gateway: str
    probed: bool = True

    @property
    def id(self) -> str:
        return f"{self.group}: {self.what}"


def head(
    *lines: bytes, path: bytes = MODEL + b":predict", first: bytes = b"", end: bytes = b"\r\n"
) -> bytes:
    first = first or b"POST " + path + b" HTTP/1.1"
    return end.join((first, b"Host: a", *lines, b"", b""))


def post(body: bytes, *lines: bytes, path: bytes = MODEL + b":predict") -> bytes:
    return head(b"Content-Length: %d" % len(body), *lines, path=path) + body


def get(path: bytes) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def chunked(*chunks: bytes) -> tuple[bytes, ...]:
    return (head(b"Transfer-Encoding: chunked"), *chunks)


def _case(
    group: str,
    what: str,
    *parts: Part,
    both: str = "",
    server: str = "",
    gateway: str = "",
    probed: bool = True,
) -> Case:
    return Case(group, what, parts, server or both, gateway or both, probed)


_CHUNK = b"14\r\n" + GOOD + b"\r\n0\r\n\r\n"
_NO = "400, closed"
_LONG = "431, closed"
_405, _501 = "405, closed", "501, closed"


def _syntax() -> list[Case]:
    group = "request line and headers"
    return [
        _case(group, "a good request", post(GOOD), both="200"),
        _case(group, "HTTP/1.0", post(GOOD).replace(b"1.1", b"1.0", 1), both="200, closed"),
        _case(group, "HTTP/0.9", b"GET " + MODEL + b"\r\n\r\n", both=_NO),
        _case(group, "HTTP/1.2", post(GOOD).replace(b"HTTP/1.1", b"HTTP/1.2", 1), both=_NO),
        _case(group, "HTTP/2.0", post(GOOD).replace(b"HTTP/1.1", b"HTTP/2.0", 1), both=_NO),
        _case(group, "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", both=_NO),
        _case(
            group,
            "TLS hello",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 300,
            both=_NO,
        ),
        _case(
            group, "HEAD", head(first=b"HEAD " + MODEL + b" HTTP/1.1"), server="400", gateway=_405
        ),
        _case(
            group,
            "unknown method",
            head(first=b"BREW " + MODEL + b" HTTP/1.1"),
            server=_501,
            gateway=_NO,
        ),
        _case(
            group,
            "method in small letters",
            head(first=b"post " + MODEL + b" HTTP/1.1"),
            server=_501,
            gateway=_NO,
        ),
        _case(
            group,
            "method with a hyphen",
            head(first=b"M-SEARCH * HTTP/1.1"),
            server=_501,
            gateway="404",
        ),
        _case(
            group,
            "method of WebDAV",
            head(first=b"PROPFIND " + MODEL + b" HTTP/1.1"),
            server=_501,
            gateway=_405,
        ),
        _case(
            group,
            "unknown method in HTTP/1.2",
            head(first=b"BREW " + MODEL + b" HTTP/1.2"),
            both=_NO,
        ),
        _case(group, "unknown method, no version", b"BREW " + MODEL + b"\r\n\r\n", both=_NO),
        _case(
            group, "a method that is none", head(first=b"GE(T " + MODEL + b" HTTP/1.1"), both=_NO
        ),
        _case(group, "CONNECT", head(first=b"CONNECT a:443 HTTP/1.1"), server=_501, gateway=_NO),
        _case(
            group, "TRACE", head(first=b"TRACE " + MODEL + b" HTTP/1.1"), server=_501, gateway=_405
        ),
        _case(
            group,
            "OPTIONS *",
            head(first=b"OPTIONS * HTTP/1.1"),
            server="404, closed",
            gateway="404",
        ),
        _case(group, "no Host", b"GET " + MODEL + b" HTTP/1.1\r\n\r\n", both="200"),
        _case(group, "LF-only lines", head(b"Content-Length: 20", end=b"\n") + GOOD, both=_NO),
        _case(group, "one LF-only line", head(b"X: 1\nY: 2", path=MODEL), both=_NO),
        _case(
            group, "bare CR in a value", head(b"X: 1\r2", b"Content-Length: 20") + GOOD, both=_NO
        ),
        _case(group, "bare CR between headers", head(b"X: 1\rContent-Length: 20") + GOOD, both=_NO),
        _case(group, "NUL in a value", head(b"X: 1\x002", b"Content-Length: 20") + GOOD, both=_NO),
        _case(group, "NUL in the path", get(MODEL + b"\x00"), both=_NO),
        _case(group, "byte 255 in a value", post(GOOD, b"X: \xff"), both="200"),
        _case(group, "byte 255 in a name", post(GOOD, b"X\xff: 1"), both=_NO),
        _case(group, "byte 255 in the path", get(MODEL + b"\xff"), both=_NO),
        _case(group, "blank before the colon", post(GOOD, b"X : 1"), both=_NO),
        _case(group, "header without a colon", post(GOOD, b"X"), both=_NO),
        _case(group, "empty header name", post(GOOD, b": 1"), both=_NO),
        _case(group, "folded header", post(GOOD, b"X: 1", b" 2"), both=_NO),
        _case(group, "folded length", head(b"Content-Length:", b" 20") + GOOD, both=_NO),
        _case(group, "blank in the path", get(MODEL + b" x"), both=_NO),
        _case(
            group,
            "tabs in the request line",
            b"GET\t" + MODEL + b"\tHTTP/1.1\r\nHost: a\r\n\r\n",
            both=_NO,
        ),
        _case(group, "empty lines before", b"\r\n\r\n" + get(MODEL), both="200"),
        _case(group, "garbage", bytes(range(256)), both=_NO),
        _case(group, "Expect: something", post(GOOD, b"Expect: foo"), both="417, closed"),
        _case(
            group,
            "Upgrade: h2c",
            head(b"Connection: Upgrade", b"Upgrade: h2c", first=get(MODEL)[:-13]),
            both="200",
        ),
        _case(group, "500 headers", head(*[b"X: 1"] * 500, path=MODEL), both=_LONG),
        _case(group, "100,000 headers", head()[:-2], (b"X: 1\r\n", 100_000), b"\r\n", both=_LONG),
        _case(
            group,
            "a header of 100 kB",
            get(MODEL)[:-2] + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
            both="200",
        ),
        _case(
            group,
            "a header of 10 MB",
            get(MODEL)[:-2] + b"X: ",
            (b"a", 10_000_000),
            b"\r\n\r\n",
            both=_LONG,
        ),
        _case(
            group,
            "a path of 1 MB",
            b"GET /v1/",
            (b"a", 1_000_000),
            b" HTTP/1.1\r\nHost: a\r\n\r\n",
            both=_LONG,
        ),
        _case(
            group,
            "a method of 1 MB",
            (b"A", 1_000_000),
            b" / HTTP/1.1\r\nHost: a\r\n\r\n",
            both=_NO,
        ),
    ]


def _lengths() -> list[Case]:
    group = "lengths and smuggling"
    smuggled = get(b"/v1/models/smuggled")
    length = b"Content-Length: "
    te = b"Transfer-Encoding: chunked"

    def coded(line: bytes) -> tuple[bytes, bytes]:
        return head(line), _CHUNK

    return [
        _case(group, "length and chunks", head(length + b"20", te), _CHUNK, both=_NO),
        _case(
            group, "chunks and length", head(te, length + b"4"), b"0\r\n\r\n" + smuggled, both=_NO
        ),
        _case(group, "two lengths", head(length + b"20", length + b"3") + GOOD, both=_NO),
        _case(group, "one length twice", head(length + b"20", length + b"20") + GOOD, both=_NO),
        _case(group, "lengths with a comma", head(length + b"20, 20") + GOOD, both=_NO),
        _case(group, "length +20", head(length + b"+20") + GOOD, both=_NO),
        _case(group, "length -5", head(length + b"-5") + GOOD, both=_NO),
        _case(group, "length 0x14", head(length + b"0x14") + GOOD, both=_NO),
        _case(group, "length 2_0", head(length + b"2_0") + GOOD, both=_NO),
        _case(group, "length 20 and blanks", head(length + b"  20  ") + GOOD, both="200"),
        _case(group, "empty length", head(length) + GOOD, both=_NO),
        _case(group, "length of 30 digits", head(length + b"9" * 30) + GOOD, both=_NO),
        _case(group, "length too short", head(length + b"19") + GOOD, both=f"400 {_NO}"),
        _case(group, "body without a length", head() + GOOD, both=f"400 {_NO}"),
        _case(group, "chunked", *coded(te), both="200"),
        _case(group, "Chunked", *coded(b"Transfer-Encoding: Chunked"), both=_NO),
        _case(group, "xchunked", *coded(b"Transfer-Encoding: xchunked"), both=_NO),
        _case(group, "identity", *coded(b"Transfer-Encoding: identity"), both=_NO),
        _case(group, "gzip, chunked", *coded(b"Transfer-Encoding: gzip, chunked"), both=_NO),
        _case(
            group, "chunked, identity", *coded(b"Transfer-Encoding: chunked, identity"), both=_NO
        ),
        _case(group, "chunked, chunked", *coded(b"Transfer-Encoding: chunked, chunked"), both=_NO),
        _case(group, "chunked on two lines", head(te, te), _CHUNK, both=_NO),
        _case(
            group, "chunked and x on two lines", head(te, b"Transfer-Encoding: x"), _CHUNK, both=_NO
        ),
        _case(group, "quoted chunked", *coded(b'Transfer-Encoding: "chunked"'), both=_NO),
        _case(
            group,
            "vertical tab before chunked",
            *coded(b"Transfer-Encoding: \x0bchunked"),
            both=_NO,
        ),
        _case(
            group,
            "blank before the coding's colon",
            *coded(b"Transfer-Encoding : chunked"),
            both=_NO,
        ),
        _case(group, "folded coding", head(b"Transfer-Encoding:", b" chunked"), _CHUNK, both=_NO),
        _case(
            group,
            "coding hidden by a bare CR",
            head(b"X: 1\rTransfer-Encoding: chunked"),
            _CHUNK,
            both=_NO,
        ),
        _case(group, "chunked in HTTP/1.0", head(te).replace(b"1.1", b"1.0", 1), _CHUNK, both=_NO),
        _case(group, "chunk size zz", *chunked(b"zz\r\n" + GOOD + b"\r\n0\r\n\r\n"), both=_NO),
        _case(group, "chunk size -1", *chunked(b"-1\r\n"), both=_NO),
        _case(group, "chunk size 0x14", *chunked(b"0x14\r\n" + GOOD + b"\r\n0\r\n\r\n"), both=_NO),
        _case(group, "chunk size beyond 64 bits", *chunked(b"1" + b"0" * 16 + b"\r\n"), both=_NO),
        _case(group, "blank before the chunk size", *chunked(b" " + _CHUNK), both=_NO),
        _case(
            group,
            "blank behind the chunk size",
            *chunked(_CHUNK.replace(b"\r", b" \r", 1)),
            both=_NO,
        ),
        _case(group, "chunk extension", *chunked(_CHUNK.replace(b"\r", b";a=b\r", 1)), both="200"),
        _case(
            group,
            "bare CR in a chunk extension",
            *chunked(_CHUNK.replace(b"\r", b";a\rb\r", 1)),
            both=_NO,
        ),
        _case(
            group,
            "bare LF in a chunk extension",
            *chunked(_CHUNK.replace(b"\r", b";a\nb\r", 1)),
            both=_NO,
        ),
        _case(group, "chunk too long", *chunked(_CHUNK.replace(b"14", b"10", 1)), both=_NO),
        _case(group, "LF-only chunk lines", *chunked(_CHUNK.replace(b"\r\n", b"\n")), both=_NO),
        _case(group, "trailer", *chunked(_CHUNK[:-2] + b"X: 1\r\n\r\n"), both="200"),
        _case(
            group,
            "length in a trailer",
            *chunked(_CHUNK[:-2] + b"Content-Length: 5\r\n\r\n"),
            both=_NO,
        ),
        _case(
            group,
            "a GET with a body",
            head(length + b"20", first=get(MODEL)[:-13]) + GOOD,
            both="200",
        ),
        _case(group, "a request inside a body", post(smuggled), both="400"),
    ]


def _paths() -> list[Case]:
    group = "paths"
    post_to = MODEL + b":predict"
    return [
        _case(group, "absolute form", get(b"http://h" + MODEL), both="200"),
        _case(group, "absolute form, no path", get(b"http://h"), both=_NO),
        _case(
            group, "host without a scheme", get(b"//h" + MODEL), server="404, closed", gateway="404"
        ),
        _case(
            group,
            "two slashes",
            get(b"//v1/models/half_plus_two"),
            server="404, closed",
            gateway="404",
        ),
        _case(
            group,
            "two slashes inside",
            get(b"/v1//models/half_plus_two"),
            server="400",
            gateway="404",
        ),
        _case(
            group,
            "dot segments",
            get(b"/v1/models/../models/half_plus_two"),
            server="400",
            gateway="404",
        ),
        _case(
            group,
            "encoded dot segments",
            get(b"/v1/models/%2e%2e/models/half_plus_two"),
            server="400",
            gateway="404",
        ),
        _case(
            group, "out of the root", get(b"/../../etc/passwd"), server="404, closed", gateway="404"
        ),
        _case(
            group, "encoded slash", get(b"/v1/models%2Fhalf_plus_two"), server="400", gateway="404"
        ),
        _case(group, "encoded slash in a name", get(b"/v1/models/half%2Fplus"), both="404"),
        _case(group, "other case", get(b"/V1/Models/half_plus_two"), both="200"),
        _case(group, "other case of the name", get(b"/v1/models/HALF_PLUS_TWO"), both="404"),
        _case(
            group,
            "other case of the verb",
            post(GOOD, path=MODEL + b":PREDICT"),
            server="400",
            gateway="404",
        ),
        _case(group, "encoded letters", get(b"/v1/models/half%5Fplus_two"), both="200"),
        _case(group, "encoded twice", get(b"/v1/models/half%255Fplus_two"), both="404"),
        _case(
            group,
            "encoded colon",
            post(GOOD, path=MODEL + b"%3Apredict"),
            server="400",
            gateway="405, closed",
        ),
        _case(group, "encoded NUL", get(MODEL + b"%00"), both="404"),
        _case(group, "encoded line end", get(MODEL + b"%0d%0aX:1"), server="400", gateway="404"),
        _case(group, "encoded, not UTF-8", get(b"/v1/models/%ff%fe"), server="404", gateway="400"),
        _case(group, "half an escape", get(MODEL + b"%z"), server=_NO, gateway="404"),
        _case(group, "semicolon", get(MODEL + b";x=1"), both="404"),
        _case(group, "backslash", get(b"/v1\\models\\half_plus_two"), server=_NO, gateway="404"),
        _case(group, "fragment", post(GOOD, path=post_to + b"#f"), server="400", gateway=_NO),
        _case(group, "query", post(GOOD, path=post_to + b"?x=1"), both="400"),
        _case(group, "version of 400 digits", get(MODEL + b"/versions/" + b"9" * 400), both="400"),
        _case(group, "negative version", get(MODEL + b"/versions/-1"), server="400", gateway="404"),
        _case(group, "a name of 10 kB", get(b"/v1/models/" + b"a" * 10_000), both="404"),
        _case(
            group,
            "a template in the name",
            get(b"/v1/models/$%7Bjndi:ldap:%2F%2Fa%7D"),
            server="400",
            gateway="404",
        ),
    ]


def _bodies() -> list[Case]:
    group = "bodies"
    deep = b'{"instances":', (b"[", 500_000), b"1.0", (b"]", 500_000), b"}"
    bomb = gzip.compress(b" " * 200_000_000, 9, mtime=0)
    zipped = b"Content-Encoding: gzip"
    return [
        _case(group, "empty", post(b""), both="400"),
        _case(group, "NUL bytes", post(b"\0" * 1000), both="400"),
        _case(group, "NUL in a string", post(b'{"instances": ["a\0b"]}'), both="400"),
        _case(group, "invalid UTF-8", post(b'{"instances": ["\xff\xfe"]}'), both="400"),
        _case(
            group, "invalid UTF-8 in a key", post(b'{"\xff": 1, "instances": [1.0]}'), both="200"
        ),
        _case(group, "lone surrogate", post(b'{"instances": ["\\ud800"]}'), both="400"),
        _case(group, "500,000 brackets deep", head(b"Content-Length: 1000017"), *deep, both="400"),
        _case(
            group,
            "500,000 brackets, never closed",
            head(b"Content-Length: 500000"),
            (b"[", 500_000),
            both="400",
        ),
        _case(
            group,
            "100,000 objects deep",
            head(b"Content-Length: 500000"),
            (b'{"a":', 100_000),
            both="400",
        ),
        _case(
            group,
            "a number of 1,000,000 digits",
            head(b"Content-Length: 1000017"),
            b'{"instances": [',
            (b"9", 10**6),
            b"]}",
            both="400",
        ),
        _case(group, "1e999", post(b'{"instances": [1e999]}'), both="400"),
        _case(
            group,
            "a string of 1 MB for a number",
            head(b"Content-Length: 1000020"),
            b'{"instances": ["',
            (b"a", 10**6),
            b'"]}x',
            both="400",
        ),
        _case(
            group,
            "5,000,000 empty objects",
            head(b"Content-Length: 15000018"),
            b'{"instances": [',
            (b"{},", 5_000_000),
            b"0]}",
            both="400",
        ),
        _case(
            group,
            "an open string of 5,000,000 escapes",
            head(b"Content-Length: 10000016"),
            b'{"instances": ["',
            (b"\\n", 5_000_000),
            both="400",
        ),
        _case(group, "base64 that is none", post(b'{"instances": [{"b64": "%%%"}]}'), both="400"),
        _case(
            group,
            "gzip bomb, 200 MB from 200 kB",
            post(bomb, zipped),
            server="400",
            gateway="413, closed",
        ),
        _case(group, "gzip cut short", post(gzip.compress(GOOD)[:-3], zipped), both="400"),
        _case(
            group,
            "gzip with a wrong checksum",
            post(gzip.compress(GOOD)[:-8] + b"\0" * 8, zipped),
            both="400",
        ),
        _case(group, "gzip that is none", post(GOOD, zipped), both="400"),
        _case(group, "gzip twice", post(gzip.compress(gzip.compress(GOOD)), zipped), both="400"),
        _case(group, "bytes behind the gzip", post(gzip.compress(GOOD) + b"x", zipped), both="400"),
        _case(
            group,
            "an unknown coding",
            post(GOOD, b"Content-Encoding: br"),
            server="200",
            gateway="415, closed",
        ),
        _case(
            group,
            "1 GB announced",
            head(b"Content-Length: 1073741824"),
            (b" ", 1 << 20),
            both="413",
            probed=False,
        ),
        _case(
            group,
            "1 GB announced, with Expect",
            head(b"Content-Length: 1073741824", b"Expect: 100-continue"),
            both="413",
            probed=False,
        ),
    ]


def _turns() -> list[Case]:
    group = "turns"
    good = post(GOOD)
    bad = head(b"Content-Length: x")
    return [
        _case(group, "two requests at once", good + good, both="200 200"),
        _case(group, "fifty requests at once", good * 50, both=" ".join(["200"] * 50)),
        _case(group, "a broken one behind a good one", good + bad, both=f"200 {_NO}"),
        _case(group, "a broken one behind two good ones", good + good + bad, both=f"200 200 {_NO}"),
        _case(
            group,
            "a broken chunk behind a good one",
            good + head(b"Transfer-Encoding: chunked") + b"zz\r\n",
            both=f"200 {_NO}",
        ),
        _case(group, "garbage behind a good one", good + b"\0\1\2", both=f"200 {_NO}"),
        _case(group, "a byte at a time", *(good[i : i + 1] for i in range(len(good))), both="200"),
        _case(
            group,
            "Connection: close, then another",
            post(GOOD, b"Connection: close") + good,
            both="200, closed",
        ),
        _case(
            group,
            "an early refusal with its body",
            post(GOOD, path=b"/nowhere"),
            server="404, closed",
            gateway="404",
        ),
    ]


CASES = (*_syntax(), *_lengths(), *_paths(), *_bodies(), *_turns())

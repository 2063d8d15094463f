"""docs/reference/abuse.md, made from the cases: python -m tests.abuse.page >
docs/reference/abuse.md"""

from __future__ import annotations

from itertools import groupby

from tests.abuse import calls, cases, frames, slow

_HEAD = """\
# What both doors make of abuse

<!-- Made by python -m tests.abuse.page > docs/reference/abuse.md -->

Every row is sent, byte for byte, to `headrace serve` and to a gateway before it, by `make test`;
this is what comes back. Two numbers are two answers, "closed" says that the connection ends with
them. Behind each row follows one more request on the same connection: where nothing says "closed",
the next answer was that one's, so both ends agree where the request ended. 501 is TensorFlow
Serving's answer to a method it does not know, TRACE and CONNECT among them.

Besides, `make test` sends generated requests (hypothesis, schemathesis on the gateway's OpenAPI
document, mutated protobufs), lets callers trickle, vanish and take no answers; `make test-long`
sends more of everything, and holds memory and descriptors after 10,000 requests to within 5 % of
those after 1,000. The limits are [flags of headrace serve](serve-flags.md) and settings of the
gateway (`HEADRACE_MAX_...`, `HEADRACE_..._S`; `python -m gateway --help`).
"""


def page() -> str:
    parts = [_HEAD]
    for group, rows in groupby(cases.CASES, key=lambda case: case.group):
        parts.append(
            f"\n## {group[0].upper()}{group[1:]}\n\n| sent | headrace serve | gateway "
            "|\n|---|---|---|\n"
        )
        parts += [
            f"| {row.what} | {_short(row.server)} | {_short(row.gateway)} |\n" for row in rows
        ]
    parts.append("\n## gRPC\n\n| sent | headrace serve | gateway |\n|---|---|---|\n")
    parts += [f"| {row.what} | {row.server} | {row.gateway} |\n" for row in calls.CALLS]
    parts.append(
        "\n## HTTP/2 frames to the gRPC ports\n\nBoth doors alike: the connection is closed, or "
        "the other end "
    )
    parts.append("waits for the rest of what was begun.\n\n| sent | then |\n|---|---|\n")
    parts += [f"| {row.what} | {row.told} |\n" for row in frames.FRAMES]
    parts.append(
        "\n## Callers that take their time\n\nOnce the limit for it has passed, both doors:\n\n"
    )
    parts.append("| caller | then |\n|---|---|\n")
    parts += [
        f"| {name} | {f'{told}, closed' if told else 'closed'} |\n"
        for name, (_, told) in slow.SCRIPTS.items()
    ]
    return "".join(parts)


def _short(told: str) -> str:
    words = told.split(" ")
    return f"{len(words)} times {words[0]}" if len(words) > 3 and len(set(words)) == 1 else told


if __name__ == "__main__":
    print(page(), end="")

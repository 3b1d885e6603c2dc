"""Two sets of calls side by side: which call answers to which, and what differs between them.

Calls that run in parallel end in any order, so the order says little: a call is first paired with one that asked the very same
from the same place, then with the next one from that place. What is left over is on one side only. Latency and cost are
never a difference by themselves, because they never repeat.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lmtrace._cli._call import answers, conversation
from lmtrace._cli._words import Piece, word_pieces

Row = dict[str, Any]

FIGURES = ("cost", "input_tokens", "output_tokens", "duration_ms")
"""What is summed up and subtracted."""


@dataclass(frozen=True, slots=True)
class Change:
    """One text that differs."""

    where: str
    """``system``, ``user 2``, ``answer``, ``temperature`` …"""
    pieces: tuple[Piece, ...]
    """The words of both texts in order."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A call of each side, or of one."""

    a: Row | None
    b: Row | None
    changes: tuple[Change, ...] = ()

    @property
    def state(self) -> str:
        """``same``, ``changed``, ``only A`` or ``only B``."""
        if self.a is None or self.b is None:
            return "only A" if self.b is None else "only B"
        return "changed" if self.changes else "same"

    @property
    def either(self) -> Row:
        """A call of the pair."""
        found = self.a if self.a is not None else self.b
        assert found is not None  # a pair has one
        return found

    def delta(self, name: str) -> float | None:
        """A figure of B less that of A; None when one is not known."""
        before, after = (row.get(name) if row is not None else None for row in (self.a, self.b))
        return None if before is None or after is None else after - before


def compare(a: Sequence[Row], b: Sequence[Row]) -> list[Pair]:
    """Return the pairs in the order of A's calls, then what only B has."""
    partner: dict[int, int] = {}
    for key in (_same_request, _same_question, _same_place):
        _match(a, b, partner, key)
    pairs = [_pair(row, b[partner[index]]) if index in partner else Pair(row, None) for index, row in enumerate(a)]
    taken = set(partner.values())
    return pairs + [Pair(None, row) for index, row in enumerate(b) if index not in taken]


def _match(a: Sequence[Row], b: Sequence[Row], partner: dict[int, int], key: Callable[[Row], object]) -> None:
    taken, free = set(partner.values()), defaultdict[object, deque[int]](deque)
    for index, row in enumerate(b):
        if index not in taken:
            free[key(row)].append(index)
    for index, row in enumerate(a):
        if index not in partner and free[key(row)]:
            partner[index] = free[key(row)].popleft()


def _same_request(row: Row) -> object:
    return row["scope"], row["rollout_id"], row["model"], tuple(conversation(row))


def _same_question(row: Row) -> object:
    return row["scope"], tuple(conversation(row))


def _same_place(row: Row) -> object:
    return row["scope"], row["operation"]


def _pair(a: Row, b: Row) -> Pair:
    return Pair(a, b, tuple(_changes(a, b)))


def _changes(a: Row, b: Row) -> Iterator[Change]:
    for where, before, after in _facts(a, b):
        if before != after:
            yield Change(where, tuple(Piece(kind, said) for kind, said in (("-", before), ("+", after)) if said))
    for where, before, after in _texts(a, b):
        if before != after:
            yield Change(where, tuple(word_pieces(before, after)))


def _facts(a: Row, b: Row) -> Iterator[tuple[str, str, str]]:
    yield "model", a["model"] or "", b["model"] or ""
    before, after = (row["kwargs"] if isinstance(row["kwargs"], dict) else {} for row in (a, b))
    for name in sorted({*before, *after} - {"messages", "rollout_id"}):
        yield name, _text(before.get(name)), _text(after.get(name))
    yield "tools", _text(a["tools"]), _text(b["tools"])


def _texts(a: Row, b: Row) -> Iterator[tuple[str, str, str]]:
    yield from _aligned(_numbered(conversation(a)), _numbered(conversation(b)))
    yield from _aligned(_numbered(_answers(a)), _numbered(_answers(b)))
    yield "error", _error(a), _error(b)


def _answers(row: Row) -> Iterator[tuple[str, str]]:
    return (("answer", said) for said in answers(row))


def _numbered(said: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Texts by who said them: ``user``, ``user 2`` and so on."""
    counts: defaultdict[str, int] = defaultdict(int)
    texts = {}
    for role, text in said:
        counts[role] += 1
        texts[role if counts[role] == 1 else f"{role} {counts[role]}"] = text
    return texts


def _aligned(a: dict[str, str], b: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    for where in dict.fromkeys((*a, *b)):
        yield where, a.get(where, ""), b.get(where, "")


def _error(row: Row) -> str:
    return f"{row['error_type']}: {row['error_message'] or ''}" if row["error_type"] else ""


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    import orjson

    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS).decode()

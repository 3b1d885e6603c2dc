"""Two sets of calls side by side: which call answers to which, and what differs between them.

Calls that run in parallel end in any order, so the order says little: a call is first paired with one that asked the very same
from the same place, with one that gave a predictor of DSPy the same inputs, then with the next one from that place. What is
left over is on one side only. Latency and cost are never a difference by themselves, because they never repeat.
"""

from __future__ import annotations

import difflib
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lmtrace._cli._call import answers, conversation
from lmtrace._cli._fields import Demo, Fields, Prompt, answers_of, demo_line, prompt_of
from lmtrace._cli._words import Piece, word_pieces

Row = dict[str, Any]

FIGURES = ("cost", "input_tokens", "output_tokens", "duration_ms")
"""What is summed up and subtracted."""


@dataclass(frozen=True, slots=True)
class Change:
    """One text that differs."""

    where: str
    """``system``, ``user 2``, ``answer``, ``temperature`` …; of DSPy ``instructions``, ``demos``, ``input question``, ``output answer``."""
    pieces: tuple[Piece, ...]
    """The words of both texts in order."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A call of each side, or of one."""

    a: Row | None
    b: Row | None
    changes: tuple[Change, ...] = ()
    same: tuple[tuple[str, str], ...] = ()
    """What both calls of a changed pair have in common and tells a person what they are about; with DSPy only."""

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
    for key in (_same_request, _same_question, _same_inputs, _same_place):
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
        if index not in partner and free[found := key(row)] and found is not None:
            partner[index] = free[found].popleft()


def _same_request(row: Row) -> object:
    return row["scope"], row["rollout_id"], row["model"], tuple(conversation(row))


def _same_question(row: Row) -> object:
    return row["scope"], tuple(conversation(row))


def _same_inputs(row: Row) -> object:
    """Two candidates ask the same with other instructions or other demos."""
    prompt = prompt_of(row)
    return None if prompt is None else (row["scope"], prompt.inputs)


def _same_place(row: Row) -> object:
    return row["scope"], row["operation"]


def _pair(a: Row, b: Row) -> Pair:
    prompts = prompt_of(a), prompt_of(b)
    changes = tuple(_changes(a, b, prompts))
    return Pair(a, b, changes, tuple(_common(*prompts)) if changes else ())


def _common(a: Prompt | None, b: Prompt | None) -> Iterator[tuple[str, str]]:
    if a is None or b is None:
        return
    if a.demos and a.demos == b.demos:
        yield "demos", f"{len(a.demos)}, the same"
    yield from ((f"input {name}", said) for name, said in a.inputs if (name, said) in b.inputs)


def _changes(a: Row, b: Row, prompts: tuple[Prompt | None, Prompt | None]) -> Iterator[Change]:
    for where, before, after in _facts(a, b):
        if before != after:
            yield Change(where, tuple(Piece(kind, said) for kind, said in (("-", before), ("+", after)) if said))
    asked = list(_prompt_changes(*prompts))
    yield from asked or _words(_aligned(_numbered(conversation(a)), _numbered(conversation(b))))
    yield from list(_words(_answered(a, b))) or _words(_whole_answers(a, b))
    yield from _words([("error", _error(a), _error(b))])


def _prompt_changes(a: Prompt | None, b: Prompt | None) -> Iterator[Change]:
    """What differs between two prompts of DSPy."""
    if a is None or b is None:
        return
    yield from _words([("instructions", a.instructions, b.instructions)])
    if a.demos != b.demos:
        yield Change("demos", tuple(_demo_pieces(a.demos, b.demos)))
    yield from _words(_aligned(_prefixed("input", a.inputs), _prefixed("input", b.inputs)))
    yield from _words([("fields", a.rest, b.rest)])


def _demo_pieces(a: Sequence[Demo], b: Sequence[Demo]) -> Iterator[Piece]:
    """Demos that are gone or new, a line each, and how many are the same between them."""
    for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            yield Piece("=", f"\n    {j - i} the same")
            continue
        yield from (Piece("-", f"\n    {demo_line(demo)}") for demo in a[i:j])
        yield from (Piece("+", f"\n    {demo_line(demo)}") for demo in b[k:m])


def _words(texts: Iterable[tuple[str, str, str]]) -> Iterator[Change]:
    return (Change(where, tuple(word_pieces(before, after))) for where, before, after in texts if before != after)


def _facts(a: Row, b: Row) -> Iterator[tuple[str, str, str]]:
    yield "model", a["model"] or "", b["model"] or ""
    before, after = (row["kwargs"] if isinstance(row["kwargs"], dict) else {} for row in (a, b))
    for name in sorted({*before, *after} - {"messages", "rollout_id"}):
        yield name, _text(before.get(name)), _text(after.get(name))
    yield "tools", _text(a["tools"]), _text(b["tools"])


def _answered(a: Row, b: Row) -> Iterator[tuple[str, str, str]]:
    before, after = answers_of(a), answers_of(b)
    if before is None or after is None:
        return _whole_answers(a, b)
    return _aligned(_output_fields(before), _output_fields(after))


def _whole_answers(a: Row, b: Row) -> Iterator[tuple[str, str, str]]:
    return _aligned(_numbered(_answers(a)), _numbered(_answers(b)))


def _output_fields(answered: list[Fields]) -> dict[str, str]:
    found: dict[str, str] = {}
    for index, fields in enumerate(answered, 1):
        found |= _prefixed("output" if index == 1 else f"output {index}", fields)
    return found


def _prefixed(prefix: str, fields: Fields) -> dict[str, str]:
    return {f"{prefix} {name}".strip(): said for name, said in fields}


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

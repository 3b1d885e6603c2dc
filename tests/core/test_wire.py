"""Odd values: whatever a caller passes becomes JSON, and what is not marked as lossy comes back."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from unittest.mock import MagicMock

import duckdb
import orjson
import pydantic
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lmtrace._wire import TAG, decode, dumps, encode

texts = st.text(st.characters(codec=None), max_size=8)  # lone surrogates included
instants = st.datetimes(timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(minutes=-90))))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**70)
    | st.floats()
    | texts
    | st.binary(max_size=8)
    | instants
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
)
keys = st.deferred(
    lambda: st.none() | st.booleans() | st.integers() | texts | st.binary(max_size=4) | st.tuples(keys, keys)
)
values = st.recursive(
    scalars
    | st.sets(st.integers() | texts, max_size=4)
    | st.frozensets(st.frozensets(st.integers(), max_size=2), max_size=2),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts | st.sampled_from([TAG, "lossy", "items", "value"]), inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equality that tells types apart, and for which NaN equals itself."""
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, frozenset):
        return isinstance(other, (set, frozenset)) and one == other
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@given(values)
@settings(max_examples=300)
@example({TAG: "float", "value": "nan"})
@example({TAG: TAG})
@example({(1, ("a", frozenset({2}))): 1})
@example([{"a": math.nan, "b": "null"}])
@example("\\ud800 \ud800 \\")
@example({frozenset({1}): {"\udfff": 2**64}})
@example([-(2**63) - 1, 2**64 - 1, 2**64])
def test_round_trip(value: Any) -> None:
    """What is not marked as lossy comes back as it was, through any JSON library."""
    text = dumps(value)
    assert same(value, decode(json.loads(text)))
    assert orjson.loads(text) == json.loads(text)


@given(values)
def test_one_form(value: Any) -> None:
    """The fast way and the careful one agree on every value."""
    assert orjson.loads(dumps(value)) == orjson.loads(orjson.dumps(encode(value)))


class Colour(enum.Enum):
    RED = "red"
    NAN = math.nan


class Level(enum.IntEnum):
    HIGH = 3


Point = namedtuple("Point", "x y")  # noqa: PYI024 - untyped on purpose
IDENTITY = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (IDENTITY, "00000000-0000-0000-0000-000000000007"),
        ({"a": [IDENTITY, math.inf]}, {"a": [str(IDENTITY), {TAG: "float", "value": "inf"}]}),
        ([Colour.NAN], [{TAG: "float", "value": "nan"}]),
        (b"\xff", {TAG: "bytes", "base64": "/w=="}),
        (bytearray(b"a"), {TAG: "bytes", "base64": "YQ=="}),
        (-(2**70), {TAG: "int", "value": "-0x400000000000000000"}),
        ({3, 1}, {TAG: "set", "items": [1, 3]}),
        ({1: 2}, {TAG: "dict", "items": [[1, 2]]}),
        ("a\\\ud800", {TAG: "str", "escaped": "a\\\\\\ud800"}),
        (datetime(2026, 1, 2, tzinfo=UTC), {TAG: "datetime", "value": "2026-01-02T00:00:00+00:00"}),
        (date(2026, 1, 2), {TAG: "date", "value": "2026-01-02"}),
        (time(1, 2), {TAG: "time", "value": "01:02:00"}),
        (Decimal("1.50"), {TAG: "decimal", "value": "1.50"}),
    ],
)
def test_forms(value: object, form: object) -> None:
    """Each kind of value has one documented form."""
    assert json.loads(dumps(value)) == form


class Weather(pydantic.BaseModel):
    city: str
    at: datetime | None = None


@dataclasses.dataclass
class Spot:
    x: object


class Plain:
    """An object whose `repr` holds a secret."""

    def __repr__(self) -> str:
        return "sk-secret"


def test_lossy_forms() -> None:
    """Of objects a reader gets the data or the name, marked as lossy; never their `repr`."""
    assert json.loads(dumps(Weather(city="Rome"))) == {
        TAG: "model",
        "type": f"{__name__}.Weather",
        "data": {"city": "Rome", "at": None},
        "lossy": True,
    }
    assert json.loads(dumps([Spot({1})]))[0]["data"] == {"x": {TAG: "set", "items": [1]}}
    described = json.loads(dumps(Weather))
    assert (described[TAG], described["schema"]["properties"]["city"]["type"]) == ("class", "string")
    assert json.loads(dumps(Plain())) == {TAG: "object", "type": f"{__name__}.Plain", "lossy": True}
    assert json.loads(dumps(len)) == {TAG: "callable", "name": "builtins.len", "lossy": True}
    assert decode(encode(Plain())) == encode(Plain())


def test_a_model_that_warns(recwarn: pytest.WarningsRecorder) -> None:
    """A pydantic model with values of the wrong type is serialised without a warning to the caller."""
    broken = Weather.model_construct(city=5)  # type: ignore[arg-type]
    assert json.loads(dumps(broken))["data"]["city"] == 5
    assert not recwarn.list


def test_a_class_without_schema() -> None:
    """A class that JSON Schema cannot describe keeps its name."""

    class Odd(pydantic.BaseModel, arbitrary_types_allowed=True):
        plain: Plain

    assert json.loads(dumps(Odd))["type"].endswith("Odd")


class Hostile:
    """Raises whatever is done with it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError

    __eq__ = __hash__ = __iter__ = __len__ = __deepcopy__ = __bool__ = __repr__  # type: ignore[assignment]


class HostileDict(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError


class HostileList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError


class HostileModel(pydantic.BaseModel):
    def model_dump(self, **kwargs: Any) -> Any:
        raise RuntimeError


class HostileType(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError


class Nameless(metaclass=HostileType):
    pass


def released() -> memoryview:
    view = memoryview(b"x")
    view.release()
    return view


@pytest.mark.parametrize(
    "make", [Hostile, lambda: HostileDict(a=1), lambda: HostileList([1]), HostileModel, Nameless, released, MagicMock]
)
def test_hostile_objects(make: Any) -> None:
    """An object that fails when it is looked at is recorded by its type, and the values beside it are kept."""
    kept = json.loads(dumps({"beside": 1, "odd": [make()]}))
    assert kept["beside"] == 1
    assert kept["odd"][0]["lossy"] is True


def test_cycles_and_depth() -> None:
    """A cycle is cut where it closes, and nesting after a hundred levels; neither fails nor takes long."""
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    assert json.loads(dumps(cycle)) == [1, {"again": {TAG: "truncated", "lossy": True}}]
    deep: Any = "bottom"
    for _ in range(5_000):
        deep = {"in": [deep]}
    assert dumps(deep).count(b'"in"') == 50


def test_duckdb_reads_everything() -> None:
    """DuckDB reads the form of every odd value as JSON."""
    odd = ["\ud800", "\x00", math.nan, 2**90, b"\0", {("a", None): {1}}, Weather(city="a"), Hostile(), {TAG: 1}, "😀"]
    query = "select json_valid(?), json_array_length(?::json), (?::json)->>'$[9]'"
    line = dumps(odd).decode()
    assert duckdb.execute(query, [line, line, line]).fetchall() == [(True, len(odd), "😀")]


@pytest.mark.parametrize(
    "tag",
    [
        {TAG: "wormhole"},
        {TAG: "int"},
        {TAG: "int", "value": "zz"},
        {TAG: "bytes", "base64": "*"},
        {TAG: "bytes", "base64": 5},
        {TAG: "decimal", "value": "one"},
        {TAG: "dict", "items": [[1]]},
        {TAG: "dict", "items": [[{TAG: "dict", "items": []}, 1]]},
        {TAG: ["int"]},
    ],
)
def test_damaged_tags(tag: object) -> None:
    """A tag that `encode` cannot have written is refused with a ValueError that names it."""
    with pytest.raises(ValueError, match="tag"):
        decode([tag])

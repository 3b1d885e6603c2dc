"""Requests, responses and entries: their JSON forms, the schema of these, and the mapping DSPy's users know."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from importlib import resources
from typing import Any, get_args

import jsonschema
import orjson
import pytest
from backends import PROMPT, Answering, answer, asked
from hypothesis import given
from hypothesis import strategies as st

import lmtrace
from lmtrace import HistoryEntry, LMOutput, LMRequest, LMResponse, LMTextPart, LMUsage, _data, _wire
from lmtrace._data import MODEL_TYPES, LMPart
from lmtrace._entry import DSPY_KEYS, CallError, dspy_outputs, isoformat
from lmtrace._schema import CALL_COLUMNS, SPAN_COLUMNS
from lmtrace._traced import TracedBackend
from lmtrace.testing import Captured, capture

SCHEMA = json.loads((resources.files(lmtrace) / "schema" / "lm.schema.json").read_text(encoding="utf-8"))


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{name}"})


texts = st.text(max_size=5)
blobs = st.dictionaries(texts, st.none() | st.integers() | texts | st.lists(texts, max_size=2), max_size=2)
STRATEGIES: dict[str, st.SearchStrategy[Any]] = {
    "str": texts,
    "bool": st.booleans(),
    "int": st.integers(0, 10**6),
    "float": st.floats(0, 10),
    "Any": st.integers() | texts | st.lists(texts, min_size=1, max_size=2) | blobs,
    "Mapping[str, Any]": blobs,
    "ModelType": st.sampled_from(MODEL_TYPES),
}


def instances(cls: Any, **given_: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any instance of a class of data, from the types of its fields."""

    def field(item: Any) -> st.SearchStrategy[Any]:
        kind = str(item.type)
        strategy = given_[item.name] if item.name in given_ else STRATEGIES[kind.removesuffix(" | None")]
        return st.none() | strategy if kind.endswith("| None") or kind == "Any" else strategy

    return st.builds(cls, **{item.name: field(item) for item in dataclasses.fields(cls)})


parts = st.one_of([instances(cls) for cls in get_args(LMPart)])
outputs = instances(LMOutput, parts=st.lists(parts, max_size=3).map(tuple))
responses = instances(
    LMResponse, outputs=st.lists(outputs, min_size=1, max_size=2).map(tuple), usage=instances(LMUsage)
)
requests = instances(LMRequest, metadata=st.just({}))


@given(responses)
def test_responses_round_trip(response: LMResponse) -> None:
    """A response comes back from its JSON form as it was, and the form follows the schema."""
    wire = orjson.loads(_wire.dumps(response.to_wire()))
    validator("LMResponse").validate(wire)
    assert LMResponse.from_wire(_wire.decode(wire)) == response


@given(requests)
def test_requests_round_trip(request: LMRequest) -> None:
    """So does a request, but for the caller's own metadata, which is kept nowhere."""
    wire = orjson.loads(_wire.dumps(dataclasses.replace(request, metadata={"own": 1}).to_wire()))
    validator("LMRequest").validate(wire)
    assert LMRequest.from_wire(_wire.decode(wire)) == request


BAD = {
    "LMResponse must be an object, not an array": [],
    "LMResponse.outputs needs at least one": {},
    "LMResponse.outputs must be an array, not a number": {"outputs": 5},
    "LMResponse.outputs needs at least one LMOutput": {"outputs": []},
    "LMOutput must be an object, not a number": {"outputs": [5]},
    "LMOutput.parts must be an array, not a string": {"outputs": [{"parts": "text"}]},
    "LMOutput.truncated must be a boolean, not a string": {"outputs": [{"truncated": "no"}]},
    "LMOutput.finish_reason must be a string, not a number": {"outputs": [{"finish_reason": 1}]},
    "LMPart must be an object, not a string": {"outputs": [{"parts": ["text"]}]},
    "unknown part type 'poem'; known are text, ": {"outputs": [{"parts": [{"type": "poem"}]}]},
    "unknown part type None": {"outputs": [{"parts": [{}]}]},
    "LMTextPart.text is missing": {"outputs": [{"parts": [{"type": "text"}]}]},
    "LMTextPart.text must be a string, not a number": {"outputs": [{"parts": [{"type": "text", "text": 5}]}]},
    "LMTextPart has no field colour": {"outputs": [{"parts": [{"type": "text", "text": "", "colour": 1}]}]},
    "LMUsage must be an object, not a number": {"outputs": [{}], "usage": 5},
    "LMUsage.input_tokens must be a number, not a string": {"outputs": [{}], "usage": {"input_tokens": "3"}},
    "LMResponse.cost must be a number, not a string": {"outputs": [{}], "cost": "free"},
    "LMResponse.cost must be zero or more US dollars, not -1": {"outputs": [{}], "cost": -1},
    "LMResponse.cache_hit must be a boolean, not a number": {"outputs": [{}], "cache_hit": 1},
    "LMResponse has no field colour, shape": {"outputs": [{}], "shape": 1, "colour": 1},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_responses(message: str) -> None:
    """A form that is none is refused with the class and the field, and by the schema too."""
    with pytest.raises(ValueError, match=r"LM|part") as caught:
        LMResponse.from_wire(BAD[message])  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert not validator("LMResponse").is_valid(BAD[message])


@pytest.mark.parametrize(
    "wire", [{}, {"model": 5}, {"model": "m", "model_type": "video"}, {"model": "m", "kwargs": []}, 5]
)
def test_bad_requests(wire: Any) -> None:
    """The same for requests."""
    with pytest.raises(ValueError, match="LMRequest"):
        LMRequest.from_wire(wire)
    assert not validator("LMRequest").is_valid(wire)


class TestSchema:
    """The shipped JSON Schema says what the code says."""

    def test_valid(self) -> None:
        """It is a valid schema."""
        jsonschema.Draft202012Validator.check_schema(SCHEMA)

    @pytest.mark.parametrize("cls", [LMRequest, LMOutput, LMUsage, LMResponse, *get_args(LMPart)])
    def test_fields(self, cls: Any) -> None:
        """Each class has the fields of its definition, and the same are required."""
        definition = SCHEMA["$defs"][cls.__name__]
        names = {item.name for item in dataclasses.fields(cls)} - ({"metadata"} if cls is LMRequest else set())
        kind = {"type"} if "type" in definition["properties"] else set()
        assert set(definition["properties"]) == names | kind
        needed = {item.name for item in dataclasses.fields(cls) if item.default is item.default_factory}
        assert set(definition.get("required", ())) == needed | kind

    @pytest.mark.parametrize(("name", "columns"), [("CallRow", CALL_COLUMNS), ("SpanRow", SPAN_COLUMNS)])
    def test_columns(self, name: str, columns: dict[str, str]) -> None:
        """Each kind of row has the columns of the store."""
        assert set(SCHEMA["$defs"][name]["properties"]) == {"kind", *columns} - {"output_text"}

    @pytest.mark.parametrize("mode", ["full", "metadata"])
    def test_rows(self, mode: str) -> None:
        """The lines that are really written follow it, whatever the calls were."""
        odd = {"temperature": float("inf"), "rollout_id": "\ud800", "stop": {1}, "big": 2**70}
        with capture(capture=mode) as captured, lmtrace.run("r", tags={"a": 1}):
            backend = TracedBackend(Answering())
            backend.call(asked(kwargs=odd, prompt="\udfff"), {})
            backend.call(asked(model="m\ud800", messages=None, prompt="p", model_type="text"), {})
            with pytest.raises(KeyError):
                TracedBackend(Answering(KeyError("x"))).call(asked(), {})
            list(TracedBackend(Answering(pieces=("a",))).stream(asked(stream=True), {}))
        lines = [record.line for record in captured.records]
        assert len(lines) == 5
        for line in lines:
            row = json.loads(line)
            validator("CallRow" if row["kind"] == "call" else "SpanRow").validate(row)
            assert row.keys() - {"kind"} <= (CALL_COLUMNS if row["kind"] == "call" else SPAN_COLUMNS).keys()


class TestEntry:
    """A history entry reads like DSPy's dictionary."""

    @pytest.fixture
    def entry(self, captured: Captured) -> HistoryEntry:
        return TracedBackend(Answering()).call(asked(prompt=PROMPT, kwargs={"temperature": 0.5}), {})[1]

    def test_the_twelve_keys(self, entry: HistoryEntry) -> None:
        """Exactly DSPy's keys, in DSPy's order, by key, by attribute and as a dictionary."""
        assert list(entry) == list(DSPY_KEYS) == list(dict(entry))
        assert len(entry) == 12
        for key in DSPY_KEYS:
            assert entry[key] is getattr(entry, key) or entry[key] == getattr(entry, key)
        assert dict(entry) == {
            "prompt": PROMPT,
            "messages": [{"role": "user", "content": PROMPT}],
            "kwargs": {"temperature": 0.5},
            "response": answer(),
            "outputs": ["Paris"],
            "usage": {"input_tokens": 9, "output_tokens": 1, "total_tokens": 10},
            "cost": 0.00002,
            "timestamp": "2026-01-01T00:00:00.000000Z",
            "uuid": "00000000-0000-7000-8000-000000000001",
            "model": "openai/gpt-4o-mini",
            "response_model": "gpt-4o-mini-2024-07-18",
            "model_type": "chat",
        }

    def test_other_keys(self, entry: HistoryEntry) -> None:
        """Anything else is a KeyError that lists the keys, though an attribute may have that name."""
        assert "duration_ms" not in entry
        assert entry.get("duration_ms") is None
        with pytest.raises(KeyError, match="response_model"):
            entry["duration_ms"]

    def test_copies(self, entry: HistoryEntry) -> None:
        """Entries can be copied and pickled, as processes and notebooks do, and are equal to their copies."""
        for other in (copy.copy(entry), copy.deepcopy(entry), pickle.loads(pickle.dumps(entry))):
            assert other == entry
            assert other.uuid == entry.uuid
        assert entry != dataclasses.replace(entry, uuid="x")

    def test_frozen(self, entry: HistoryEntry) -> None:
        """An entry does not change."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            entry.uuid = "x"  # type: ignore[misc]

    def test_repr(self, entry: HistoryEntry) -> None:
        """Its `repr` is short and shows nothing that was said."""
        assert repr(entry) == f"<HistoryEntry {entry.uuid} openai/gpt-4o-mini provider 1.0 ms>"
        failed = dataclasses.replace(entry, error=CallError(type="ValueError"))
        assert "openai/gpt-4o-mini error" in repr(failed)

    @pytest.mark.parametrize(("served_by", "billed"), [("provider", 0.00002), ("cache", 0.0), ("replay", 0.0)])
    def test_billed_cost(self, served_by: Any, billed: float, entry: HistoryEntry) -> None:
        """An answer that was not asked for anew keeps its cost and bills nothing."""
        other = dataclasses.replace(entry, served_by=served_by)
        assert (other.cost, other.billed_cost, other.cache_hit) == (0.00002, billed, served_by == "cache")

    def test_without_response(self, entry: HistoryEntry) -> None:
        """A call that failed has no usage, no cost and no model, rather than zeros."""
        failed = dataclasses.replace(entry, response=None, outputs=[])
        assert (failed.usage, failed.cost, failed.cost_source, failed.response_model) == ({}, None, None, None)
        assert failed.finish_reasons is None

    def test_the_providers_usage(self) -> None:
        """`usage` is the provider's own object where there is one, as in DSPy."""
        response = answer(usage=LMUsage(input_tokens=1, details={"prompt_tokens": 1}))
        with capture() as captured:
            TracedBackend(Answering(response)).call(asked(), {})
        assert captured.entries[0].usage == {"prompt_tokens": 1}


def test_outputs() -> None:
    """A candidate without anything is an empty text, one with several texts their sum."""
    assert dspy_outputs([LMOutput()]) == [""]
    assert dspy_outputs([LMOutput(parts=(LMTextPart("a"), LMTextPart("b")))]) == ["ab"]


def test_response_needs_an_output() -> None:
    """A response has at least one candidate, and its cost is no debt."""
    with pytest.raises(ValueError, match="at least one"):
        LMResponse(outputs=())
    with pytest.raises(ValueError, match="zero or more"):
        LMResponse(outputs=(LMOutput(),), cost=float("nan"))


@pytest.mark.parametrize(
    ("timestamp_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_767_225_600_123_456_789, "2026-01-01T00:00:00.123456Z"),
        (999, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_isoformat(timestamp_ns: int, text: str) -> None:
    """Times have one form: UTC, microseconds, rounded down."""
    assert isoformat(timestamp_ns) == text


def test_parts_are_documented() -> None:
    """Each part says what it is."""
    assert all(cls.__doc__ and cls.type for cls in get_args(_data.LMPart))

"""The text of a cassette: exact, canonical, reviewable, and distrusted when it is read."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lmtrace._data import LMOutput, LMRequest, LMResponse, LMTextPart, LMToolCallPart, LMUsage
from lmtrace._keys import request_key
from lmtrace_replay._errors import CassetteError, CassetteTamperedError, CassetteVersionError
from lmtrace_replay._format import Header, dumps, loads
from lmtrace_replay._lines import joined, original, readable
from lmtrace_replay._recording import RecordedChunk, RecordedError, Recording

HEADER = Header(versions={"lmtrace": "0.1.0"})


def response(text: str = "Paris.", run: int = 0, **more: Any) -> LMResponse:
    """An answer as the provider gives it in its n-th run: the same but for ids and times."""
    return LMResponse(
        model="gpt-4o-mini-2024-07-18",
        outputs=(LMOutput(parts=(LMTextPart(text),), finish_reason="stop"),),
        usage=LMUsage(input_tokens=5, output_tokens=2, details={"total_time": 0.1 * run, "prompt_tokens": 5}),
        cost=1.5e-06,
        response_id=f"chatcmpl-{run:08}",
        provider_data={"created": 1_767_225_600 + run, "system_fingerprint": f"fp_{run}", "service_tier": None},
        **more,
    )


def recording(text: str = "Capital of France?", run: int = 0, **more: Any) -> Recording:
    request = LMRequest(
        model="openai/gpt-4o-mini",
        messages=[{"role": "system", "content": "Be brief.\nBe kind."}, {"role": "user", "content": text}],
        kwargs={"temperature": 0.7, "api_base": f"http://127.0.0.1:{9_000 + run}", "max_tokens": None},
        server_address="127.0.0.1",
        server_port=9_000 + run,
    )
    fields = {"request": request, "response": response(run=run), "uuid": f"u{run}", "timestamp_ns": run} | more
    return Recording(**fields)


def text_of(*recordings: Recording) -> str:
    return dumps(recordings, HEADER)


def edited(text: str, **changes: Any) -> bytes:
    return (json.dumps(json.loads(text) | changes, indent=2) + "\n").encode()


def test_the_text_is_reviewable() -> None:
    """Two spaces, texts as lists of lines, the role before the content, a header on top."""
    text = text_of(recording(path="0.1", scope="RAG.answer"))
    assert text.startswith('{\n  "lmtrace": "cassette",\n  "format": 1,\n  "key": "lm1",\n')
    assert '"content": [\n              "Be brief.\\n",\n              "Be kind."\n            ]' in text
    assert text.index('"role"') < text.index('"content"')
    assert text.index('"scope": "RAG.answer"') < text.index('"request"') < text.index('"response"')
    assert text.endswith("}\n")


def test_recording_again_changes_nothing() -> None:
    """The same answers with other ids, times, ports, latencies and in another order of arrival give the same bytes."""
    chunks = [[RecordedChunk(ms=run * 7.5, text="Par"), RecordedChunk(ms=run * 9.0, text="is.")] for run in (1, 2)]
    first = [recording("a", 1, path="0.1"), recording("b", 2, path="0.2", chunks=chunks[0])]
    again = [recording("b", 3, path="0.2", chunks=chunks[1]), recording("a", 4, path="0.1")]
    assert text_of(*first) == text_of(*again)


def test_what_is_kept_comes_back() -> None:
    """Request, answer, error, chunks, path and scope are what they were, and the key is computed anew."""
    failed = recording(
        "b", response=None, error=RecordedError(type="litellm.RateLimitError", message="slow\ndown", status=429)
    )
    streamed = recording(
        "c", chunks=[RecordedChunk(text="Par\n"), RecordedChunk(text="is", index=1), RecordedChunk(data={"x": [1]})]
    )
    loaded = loads(text_of(recording(path="0.10", scope="s"), failed, streamed).encode()).recordings
    assert [one.path for one in loaded] == [None, None, "0.10"]
    assert loaded[0].error == failed.error
    assert loaded[1].chunks == streamed.chunks
    assert loaded[2].scope == "s"
    for one in loaded:
        assert one.request_key == request_key(one.request)
    assert request_key(loaded[2].request) == request_key(recording().request)
    assert loaded[2].response is not None
    assert loaded[2].response.outputs == recording().response.outputs
    assert loaded[2].response.cost == 1.5e-06


def test_reading_and_writing_is_stable() -> None:
    """A cassette that is read and written again is the same file, ids included."""
    tools = recording("t", response=calling("call_abcdef12"))
    text = text_of(recording("a", 1), recording("a", 2), tools)
    cassette = loads(text.encode())
    assert dumps(cassette.recordings, cassette.header) == text


def test_paths_are_ordered_by_number() -> None:
    """Task 10 comes after task 9, and in one task calls stay in time."""
    order = ["0.10", "0.9", None, "0.9.1", "1"]
    text = text_of(*(recording(str(path), path=path) for path in order))
    assert [one.path for one in loads(text.encode()).recordings] == [None, "0.9", "0.9.1", "0.10", "1"]
    later, earlier = recording("later", 5, path="0"), recording("earlier", 4, path="0")
    asked = [one.request.messages[1]["content"] for one in loads(text_of(later, earlier).encode()).recordings]
    assert asked == ["earlier", "later"]


def calling(tool_id: str, response_id: str = "chatcmpl-1") -> LMResponse:
    part = LMToolCallPart(id=tool_id, name="get_weather", arguments='{"city": "Paris"}')
    return LMResponse(outputs=(LMOutput(parts=(part,), finish_reason="tool_calls"),), response_id=response_id)


def conversation(tool_id: str, response_id: str) -> list[Recording]:
    """A tool call and the request that hands back its result."""
    ask = {"role": "user", "content": "Weather?"}
    call = {"id": tool_id, "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": tool_id, "content": "sunny"}
    first = LMRequest(model="m", messages=[ask])
    then = LMRequest(model="m", messages=[ask, said, result], kwargs={"previous_response_id": response_id})
    return [
        Recording(request=first, response=calling(tool_id, response_id)),
        Recording(request=then, response=response()),
    ]


def test_made_up_ids_are_stable_and_references_whole() -> None:
    """Random ids of answers become the same ones each time, in the requests that refer to them as well."""
    one = text_of(*conversation("call_Zk3n8dQe", "resp_0a1b2c3d"))
    assert one == text_of(*conversation("call_9xLLq0aa", "resp_ffffffff"))
    first, second = loads(one.encode()).recordings
    assert first.response is not None
    tool_id = first.response.outputs[0].parts[0].id  # type: ignore[union-attr]
    assert tool_id.startswith("call_")
    assert second.request.messages[1]["tool_calls"][0]["id"] == tool_id
    assert second.request.messages[2]["tool_call_id"] == tool_id
    assert second.request.kwargs["previous_response_id"] == first.response.response_id


def test_different_answers_get_different_ids() -> None:
    """Two answers to the same request have ids of their own."""
    text = text_of(
        recording(response=calling("call_aaaaaaaa", "r1")), recording(response=calling("call_bbbbbbbb", "r2"))
    )
    ids = {one.response.outputs[0].parts[0].id for one in loads(text.encode()).recordings}  # type: ignore[union-attr]
    assert len(ids) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab$\n", max_size=8), inner, max_size=4),
    max_leaves=20,
)
lines = st.lists(st.text("a\r\n\u2028", max_size=4), max_size=5)


@given(json_values | lines | st.text("a\r\n\u2028\x00é", max_size=12))
def test_lines_are_exact(value: Any) -> None:
    """Any JSON comes back as it was: line ends of all kinds, lists that look like lines, texts that end in a line end."""
    text = json.dumps(readable({"value": value}))
    assert original(json.loads(text)) == {"value": value}
    if '"$lmtrace"' not in text:
        read = json.loads(text)
        joined(read)
        assert read == {"value": value}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(), max_size=40), json_values)
def test_any_request_comes_back(content: str, value: Any) -> None:
    """What a caller can pass survives, lone surrogates and control characters too, and its key stays."""
    request = LMRequest(model="m", messages=[{"role": "user", "content": content}], kwargs={"extra": value})
    text = dumps([Recording(request=request, response=response())], HEADER)
    assert not set(text) & set("\x00\x07\x1b\x7f\x9b\u202e\u2028\ud800")
    loaded = loads(text.encode()).recordings[0]
    assert loaded.request.messages == request.messages
    assert request_key(loaded.request) == request_key(request)
    assert dumps([loaded], HEADER) == text


class City(pydantic.BaseModel):
    name: str


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    "value",
    [
        City,
        City(name="Paris"),
        Colour.RED,
        {1, 2},
        (1, 2),
        {1: 2},
        b"x",
        float("nan"),
        2**70,
        Decimal("1.10"),
        print,
        object(),
        {"$lmtrace": "x"},
        {"lossy": True},
        [City, {"a": City}],
        datetime(2026, 11, 21, tzinfo=UTC),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_parameters_keep_their_key(value: Any) -> None:
    """A class as response format, an object, an enum or a set: the key of the stored request is that of the live one."""
    request = LMRequest(model="m", messages=[{"role": "user", "content": "a"}], kwargs={"extra": value})
    loaded = loads(dumps([Recording(request=request, response=response())], HEADER).encode()).recordings[0]
    assert loaded.request_key == request_key(request)


def test_an_edited_request_is_refused_and_named() -> None:
    """A request that does not belong to the key beside it was edited; `trust_keys` accepts it."""
    text = text_of(recording("a"), recording("b")).replace('"content": "b"', '"content": "c"')
    with pytest.raises(CassetteTamperedError, match=r"call 2 of x\.cassette was edited.*rekey x\.cassette"):
        loads(text.encode(), "x.cassette")
    assert len(loads(text.encode(), trust_keys=True).recordings) == 2


def test_an_edited_answer_is_fine() -> None:
    """Answers may be edited by hand: that is how a test is given another one."""
    text = text_of(recording("a")).replace("Paris.", "Lyon.")
    loaded = loads(text.encode()).recordings[0]
    assert loaded.response is not None
    assert loaded.response.outputs[0].text == "Lyon."


def test_another_key_version_is_computed_anew() -> None:
    """Keys of another version are not compared: the stored request is complete."""
    text = text_of(recording("a")).replace('"key": "lm1"', '"key": "lm0"').replace('"key": "lm1:', '"key": "lm0:')
    assert loads(text.encode()).recordings[0].request_key == request_key(recording("a").request)


def test_a_newer_format_is_refused() -> None:
    """A file of a newer lmtrace is refused with what to do."""
    with pytest.raises(CassetteVersionError, match=r"x has format 2.*pip install -U lmtrace"):
        loads(edited(text_of(recording()), format=2), "x")


def test_reformatted_text_is_read() -> None:
    """Indentation, order of keys and line ends of the file do not matter."""
    text = text_of(recording("a\nb"))
    compact = json.dumps(json.loads(text), sort_keys=True).encode()
    assert loads(compact).recordings == loads(text.replace("\n", "\r\n").encode()).recordings
    assert dumps(loads(compact).recordings, HEADER) == text


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "damaged"),
        (b"{", "damaged"),
        (b"\xff\xfe{}", "damaged"),
        (b"[]", "is no cassette"),
        (b'{"log": {}}', "is no cassette"),
        (b'{"lmtrace": "cassette", "format": 1, "format": 1, "calls": []}', "stands twice"),
        (b'{"lmtrace": "cassette", "format": 1, "calls": {}}', "calls must be an array"),
        (b'{"lmtrace": "cassette", "format": "1", "calls": []}', "its format is '1'"),
        (b'{"lmtrace": "cassette", "format": 1, "calls": [], "x": 1}', "a field 'x'"),
        (b'{"lmtrace": "cassette", "format": 1, "calls": [7]}', "call 1 of"),
        (b'{"lmtrace": "cassette", "format": 1, "calls": [{"request": {}}]}', "call 1 of"),
        (b'{"lmtrace": "cassette", "format": 1, "calls": [{"response": NaN}]}', "damaged"),
        (f'{{"lmtrace": "cassette", "format": 1, "calls": [{_nested(400)}]}}'.encode(), "nested"),
        (f'{{"lmtrace": "cassette", "format": 1, "calls": {_nested(100_000)}}}'.encode(), "damaged"),
        (
            f'{{"lmtrace": "cassette", "format": 1, "calls": [{{"request": {_nested(170)}}}]}}'.encode(),
            "nested deeper than 150",
        ),
    ],
)
def test_damage_is_refused_clearly(text: bytes, why: str) -> None:
    """A damaged file is refused with its name, what is wrong and what to do."""
    with pytest.raises(CassetteError, match=why) as caught:
        loads(text, "bad.cassette")
    assert "bad.cassette" in str(caught.value)
    assert "record it again" in str(caught.value) or "name another file" in str(caught.value)


SAMPLE = text_of(recording("a\nb", path="0.1", chunks=[RecordedChunk(text="x")]), *conversation("call_x1x1x1x1", "r1"))


@given(st.data())
def test_any_damage_is_a_cassette_error(data: st.DataObject) -> None:
    """Whatever happens to the bytes of a file, reading it gives recordings or a `CassetteError`."""
    text = bytearray(SAMPLE.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        end = data.draw(st.integers(at, min(len(text), at + 40)))
        text[at:end] = data.draw(st.binary(max_size=6) | st.sampled_from([b"[", b"{", b'"', b"null", b"1e999", b"\\"]))
    with contextlib.suppress(CassetteError):
        loads(bytes(text))


@given(json_values)
def test_any_call_is_read_or_refused(value: Any) -> None:
    """Whatever JSON stands where a call, a request or an answer should, nothing but a `CassetteError` comes of it."""
    valid = json.loads(SAMPLE)
    for calls in ([value], [{"request": value}], [{**valid["calls"][0], "response": value}]):
        with contextlib.suppress(CassetteError):
            loads(json.dumps({**valid, "calls": calls}).encode())


HOSTILE = """
import sys
from lmtrace_replay._format import loads, dumps
from lmtrace_replay._recording import Recording
text = open(sys.argv[1], "rb").read()
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event))
loads(text)
seen = [event for event in seen if event.split(".")[0] in
        ("open", "exec", "compile", "import", "os", "subprocess", "socket", "pickle", "shutil", "ctypes", "marshal")]
print(seen)
"""


def test_a_strangers_cassette_only_gives_data(tmp_path: Any) -> None:
    """Tags, paths and code in a file stay data: while it is read nothing is opened, imported, run or connected to."""
    tags: list[Any] = [
        {"$lmtrace": "blob", "sha256": "../../etc/passwd"},
        {"$lmtrace": "class", "type": "os.system", "lossy": True},
        {"$lmtrace": "callable", "name": "os.system", "lossy": True},
        {"$lmtrace": "model", "type": "subprocess.Popen", "data": {"args": "id"}, "lossy": True},
        {"py/object": "os.system", "__class__": "x", "$ref": "file:///etc/passwd"},
    ]
    hostile = recording("!!python/object/apply:os.system ['id']")
    hostile = replace(
        hostile, request=replace(hostile.request, kwargs={"extra": tags}), scope="../../x", path="../../y"
    )
    file = tmp_path / "stranger.cassette"
    file.write_text(json.dumps(json.loads(text_of(hostile))).replace("null", "null"))
    done = subprocess.run([sys.executable, "-c", HOSTILE, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

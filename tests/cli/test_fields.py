"""Prompts and answers of DSPy are shown as what the program gave: instructions, demos and fields."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmtrace._cli._compare import compare
from lmtrace._cli._fields import answers_of, prompt_of
from lmtrace._cli._rows import answered, asked

WORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="<>[]{}`\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=40
)
SAID = WORDS.map(str.strip).filter(lambda text: text and "Respond with" not in text)
"""What a field may hold: any text that is not itself in the form of an adapter."""
FIELDS = st.fixed_dictionaries({"context": SAID, "question": SAID})
DEMOS = st.lists(st.tuples(FIELDS, SAID), max_size=3)
ADAPTERS = st.sampled_from(["ChatAdapter", "JSONAdapter", "XMLAdapter"])

HEAD = (
    "Your input fields are:\n1. `context` (str): \n2. `question` (str): \nYour output fields are:\n1. `answer` (str):"
)
REQUESTS = {
    "ChatAdapter": "Respond with the corresponding output fields, starting with the field `[[ ## answer ## ]]`.",
    "JSONAdapter": "Respond with a JSON object in the following order of fields: `answer`.",
    "XMLAdapter": "Respond with the corresponding output fields wrapped in XML tags `<answer>`.",
}


def written(adapter: str, fields: dict[str, str]) -> str:
    """Fields as an adapter writes those of an input."""
    form = "<{0}>\n{1}\n</{0}>" if adapter == "XMLAdapter" else "[[ ## {0} ## ]]\n{1}"
    return "\n\n".join(form.format(name, said) for name, said in fields.items())


def answer(adapter: str, said: str) -> str:
    """An answer as a model gives it."""
    if adapter == "JSONAdapter":
        return json.dumps({"answer": said})
    return written(adapter, {"answer": said}) + ("\n\n[[ ## completed ## ]]\n" if adapter == "ChatAdapter" else "")


def row(adapter: str, instructions: str, demos: list[Any], inputs: dict[str, str], said: str) -> dict[str, Any]:
    """The row of a call as DSPy makes it."""
    lines = "\n".join(f"        {line}" for line in ["", *instructions.split("\n")]).lstrip(" ")
    messages = [{"role": "system", "content": f"{HEAD}\nIn adhering to this structure, your objective is: {lines}"}]
    for given_, wanted in demos:
        messages += [{"role": "user", "content": written(adapter, given_)}]
        messages += [{"role": "assistant", "content": answer(adapter, wanted)}]
    messages += [{"role": "user", "content": f"{written(adapter, inputs)}\n\n{REQUESTS[adapter]}"}]
    return asking(messages, answer(adapter, said)) | {"adapter": adapter}


def asking(messages: list[Any], said: str) -> dict[str, Any]:
    return {
        "messages": messages, "outputs": [said], "output_text": said, "adapter": "ChatAdapter",
        "signature": "context, question -> answer", "scope": "RAG", "operation": "chat", "model": "m", "rollout_id": None,
        "kwargs": {}, "tools": None, "prompt": None, "error_type": None, "error_message": None,
    }  # fmt: skip


@given(ADAPTERS, SAID, DEMOS, FIELDS, SAID)
def test_what_was_given_is_found(
    adapter: str, instructions: str, demos: list[Any], inputs: dict[str, str], said: str
) -> None:
    """Instructions, demos, inputs and outputs are what they were, whichever adapter wrote them."""
    call = row(adapter, instructions, demos, inputs, said)
    prompt = prompt_of(call)
    assert prompt is not None
    assert prompt.instructions == instructions
    assert [(dict(demo.inputs), dict(demo.outputs)) for demo in prompt.demos] == [
        (given_, {"answer": wanted}) for given_, wanted in demos
    ]
    assert dict(prompt.inputs) == inputs
    assert answers_of(call) == [(("answer", said),)]


PIECES = st.sampled_from(
    [
        "[[ ## question ## ]]",
        "\n",
        "a",
        " ",
        "<question>",
        "</question>",
        '{"answer": "x"}',
        "In adhering to this structure, ",
        "your objective is:",
        "Respond with a JSON object",
        "```json\n",
        "[[ ## completed ## ]]",
        "1. `question`",
        "```",
    ]
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXTS}), max_size=4
)
PREAMBLE = {"role": "system", "content": f"{HEAD}\nIn adhering to this structure, your objective is: \n        Answer."}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@given(MESSAGES, MESSAGES, TEXTS, TEXTS)
@example([user("[[ ## question ## ]]\na")], [user("[[ ## question ## ]]\n\na")], "", "")
@example([user("[[ ## question ## ]]\na\n[[ ## question ## ]]\nb")], [user("[[ ## question ## ]]\nb")], "", "")
@example([], [], '{"answer": 1}', '{"answer": "1"}')
def test_no_difference_is_hidden(before: list[Any], after: list[Any], said: str, other: str) -> None:
    """What differs between the messages or answers of two calls differs between their fields, however odd the texts are."""
    a, b = asking([PREAMBLE, *before], said), asking([PREAMBLE, *after], other)
    (pair,) = compare([a], [b])
    plain = {"adapter": None, "signature": None}
    (known,) = compare([a | plain], [b | plain])
    assert pair.state == known.state


@pytest.mark.parametrize("adapter", ["ChatAdapter", "JSONAdapter", "XMLAdapter"])
def test_a_difference_is_told_by_name(adapter: str) -> None:
    """Instructions are a text of their own, demos are folded, inputs and outputs have the names of the fields."""
    same, old, new = ({"context": "c", "question": f"q{number}"} for number in range(3))
    before = row(adapter, "Answer.", [(same, "x"), (old, "y")], {"context": "c", "question": "why"}, "one")
    after = row(adapter, "Answer briefly.", [(same, "x"), (new, "z")], {"context": "c", "question": "how"}, "two")
    (pair,) = compare([before], [after])
    assert [change.where for change in pair.changes] == ["instructions", "demos", "input question", "output answer"]
    assert [(piece.kind, piece.text.strip()) for piece in pair.changes[1].pieces] == [
        ("=", "1 the same"), ("-", "question: q1 · context: c → y"), ("+", "question: q2 · context: c → z"),
    ]  # fmt: skip
    assert pair.same == (("input context", "c"),)
    unchanged = compare(
        [before], [row(adapter, "Answer.", [(same, "x"), (old, "y")], {"context": "c", "question": "how"}, "o")]
    )
    assert unchanged[0].same == (("demos", "2, the same"), ("input context", "c"))


def test_candidates_are_paired_by_their_inputs() -> None:
    """Calls of two candidates belong together if they got the same inputs, in whatever order they were made."""
    inputs = [{"context": "c", "question": f"q{number}"} for number in range(3)]
    a = [row("ChatAdapter", "Old.", [], one, "x") for one in inputs]
    b = [row("ChatAdapter", "New.", [], one, "x") for one in reversed(inputs)]
    assert [[change.where for change in pair.changes] for pair in compare(a, b)] == [["instructions"]] * 3


def test_one_line() -> None:
    """In a table a call of DSPy is its inputs and its fields, the last first; one field needs no name."""
    call = row("ChatAdapter", "Answer.", [], {"context": "c", "question": "why"}, "one")
    assert (asked(call), answered(call)) == ("question: why · context: c", "one")


def test_other_calls() -> None:
    """A call that no predictor made, and a prompt in no known form, are their messages as ever."""
    call = row("ChatAdapter", "Answer.", [], {"context": "c", "question": "why"}, "one")
    foreign = call | {"adapter": None, "signature": None}
    assert (prompt_of(foreign), answers_of(foreign)) == (None, None)
    assert asked(foreign).startswith("[[ ## context ## ]] c")
    assert prompt_of(asking([user("[[ ## question ## ]]\nwhy")], "one")) is None

"""Which recording answers: buckets, places, rollouts, and one atomic take."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmtrace
from lmtrace_replay import Recording, Recordings


def recording(
    prompt: str = "p", answer: str = "a", *, rollout: Any = None, path: str | None = None, scope: str | None = None
) -> Recording:
    kwargs = {} if rollout is None else {"rollout_id": rollout}
    request = lmtrace.LMRequest(model="m", messages=[{"role": "user", "content": prompt}], kwargs=kwargs)
    output = lmtrace.LMOutput(parts=[lmtrace.LMTextPart(answer)])
    return Recording(request=request, response=lmtrace.LMResponse(outputs=[output]), path=path, scope=scope)


def take(recordings: Recordings, prompt: str = "p", rollout: Any = None, **how: Any) -> str | None:
    found = recordings.take(recordings.key_of(recording(prompt).request), rollout, **how)
    return None if found is None or found.response is None else found.response.outputs[0].text


def test_first_in_first_out() -> None:
    """Occurrences come in the order they were recorded in, and buckets do not know of each other."""
    found = Recordings([recording("p", "1"), recording("q", "x"), recording("p", "2")])
    assert [take(found, "p"), take(found, "p"), take(found, "q"), take(found, "p")] == ["1", "2", "x", None]
    assert not found.unused


def test_places() -> None:
    """The occurrence of the same logical path comes first, then that of the same scope, then the first."""
    found = Recordings(
        [
            recording(answer="0", path="0.9", scope="other"),
            recording(answer="1", path="0.1", scope="other"),
            recording(answer="2", path="0.2", scope="mine"),
            recording(answer="3", path="0.3", scope="mine"),
        ]
    )
    assert take(found, path="0.3", scope="other") == "3"
    assert take(found, path="0.7", scope="mine") == "2"
    assert take(found, path="0.7", scope="mine") == "0"
    assert take(found) == "1"


@given(st.permutations(range(12)))
def test_schedule_does_not_matter(schedule: list[int]) -> None:
    """Each task gets its own answers in its own order, whatever order the tasks ask in."""
    tasks = [(f"0.{task}", number) for task in range(4) for number in range(3)]
    found = Recordings([recording(answer=f"{path}/{number}", path=path) for path, number in tasks])
    counts = {path: itertools.count() for path, _ in tasks}
    for index in schedule:
        path = tasks[index][0]
        assert take(found, path=path) == f"{path}/{next(counts[path])}"


def test_one_atomic_take() -> None:
    """Threads that ask at once never get the same occurrence."""
    found = Recordings([recording(answer=str(number)) for number in range(400)])
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: take(found), range(400)))
    assert sorted(map(int, taken)) == list(range(400))  # type: ignore[arg-type]


class TestRollouts:
    def test_exact(self) -> None:
        """Ids are compared as texts, and no recording without one serves one."""
        found = Recordings([recording(answer="none"), recording(answer="one", rollout=1)])
        assert take(found, rollout="1") == "one"
        assert take(found, rollout=2) is None
        assert take(found) == "none"

    def test_ordinal(self) -> None:
        """The n-th id that comes is the n-th that was recorded, and stays it."""
        found = Recordings(
            [recording(answer="a", rollout=77), recording(answer="b", rollout=5), recording(answer="c", rollout=77)],
            rollouts="ordinal",
        )
        assert [take(found, rollout=901), take(found, rollout=3), take(found, rollout=901)] == ["a", "b", "c"]
        assert take(found) is None

    def test_ignore(self) -> None:
        """Any id takes the next recording of any id, and a cached call keeps it."""
        found = Recordings([recording(answer="a", rollout=1), recording(answer="b", rollout=2)], rollouts="ignore")
        assert [take(found, rollout=8, may_repeat=True), take(found, rollout=9, may_repeat=True)] == ["a", "b"]
        assert take(found, rollout=8, may_repeat=True) == "a"
        assert take(found) is None


class TestCached:
    def test_memo(self) -> None:
        """A call that a cache may answer gets the same occurrence, and consumes it once."""
        found = Recordings([recording(answer="1"), recording(answer="2")])
        assert [take(found, may_repeat=True), take(found), take(found, may_repeat=True)] == ["1", "2", "1"]
        assert take(found) is None

    def test_used_up(self) -> None:
        """Calls without a cache may have used up everything; a cache would still know the first answer."""
        found = Recordings([recording(answer="1")])
        assert [take(found), take(found, may_repeat=True)] == ["1", "1"]

    def test_paths(self) -> None:
        """Tasks that raced for a cache have their own answers again, and one that came later has the first."""
        made = [recording(answer="a", path="0.1"), recording(answer="b", path="0.2")]
        for order in itertools.permutations(["0.1", "0.2", "0.3"]):
            found = Recordings(made)
            got = {path: take(found, path=path, may_repeat=True) for path in order}
            assert (got["0.1"], got["0.2"]) == ("a", "b"), order


def test_strict() -> None:
    """In strict order a request out of turn gets nothing, and what is due is known."""
    found = Recordings([recording("p", "1"), recording("q", "2")], order="strict")
    assert take(found, "q") is None
    due = found.expected()
    assert due is not None
    assert due.request.messages[0]["content"] == "p"
    assert [take(found, "p"), take(found, "q")] == ["1", "2"]
    assert found.expected() is None


def test_normalisers_apply_to_both() -> None:
    """Normalisers change recorded and live requests alike, so equal texts stay equal."""
    found = Recordings([recording("id=17")], normalisers=[lambda text: text.split("=")[0]])
    assert take(found, "id=99") == "a"


class TestAmbiguity:
    def other_thread(self, found: Recordings, **how: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(take, found, **how).result()

    def test_threads_without_paths(self) -> None:
        """A bucket with different answers that several threads without a path use is noted."""
        found = Recordings([recording(answer="1"), recording(answer="2")])
        take(found)
        assert found.warns_of is None
        self.other_thread(found)
        assert found.warns_of is not None

    @pytest.mark.parametrize("answers", ["11", "12"])
    def test_no_warning(self, answers: str) -> None:
        """With paths, or when all answers are the same, there is nothing to note."""
        path = "0.1" if answers == "12" else None
        found = Recordings([recording(answer=answer, path=path) for answer in answers])
        take(found, path=path)
        self.other_thread(found, path=path)
        assert found.warns_of is None


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_ordinal_rollouts_follow_tasks(recorded: list[int], live: list[int]) -> None:
    """Random rollout ids of several tasks are mapped by task: whichever asks first gets its own answers."""
    paths = [f"0.{task}" for task in range(4)]
    made = [
        recording(answer=f"{paths[task]}/{n}", rollout=f"old {task} {n}", path=paths[task])
        for task in recorded
        for n in range(2)
    ]
    found = Recordings(made, rollouts="ordinal")
    for n in range(2):
        for task in live:
            assert take(found, rollout=f"new {task} {n}", path=paths[task]) == f"{paths[task]}/{n}"
    assert take(found, rollout="one more", path="0.0") is None


def test_ordinal_rollouts_shared_by_tasks() -> None:
    """An id that several tasks use is one rollout for all of them."""
    made = [recording(answer=f"{path}/{n}", rollout=n, path=path) for path in ("0.1", "0.2") for n in range(2)]
    found = Recordings(made, rollouts="ordinal")
    answers = [take(found, rollout=rollout, path=path) for rollout, path in _shared()]
    assert answers == ["0.2/0", "0.1/0", "0.1/1", "0.2/1"]


def _shared() -> list[tuple[str, str]]:
    return [("x", "0.2"), ("x", "0.1"), ("y", "0.1"), ("y", "0.2")]


def test_ordinal_rollouts_while_recording() -> None:
    """What the provider has just answered belongs to the rollout it was asked for, in whatever order answers come."""
    found = Recordings(rollouts="ordinal")
    assert take(found, rollout="x") is take(found, rollout="y") is None
    for rollout in ("y", "x"):
        found.add(recording(answer=rollout, rollout=rollout), is_used=True)
    assert [take(found, rollout=rollout, may_repeat=True) for rollout in ("x", "y")] == ["x", "y"]

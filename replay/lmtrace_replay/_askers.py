"""Which task a recording belongs to that several have asked for: the first of them by path, whoever was first in time.

An answer that a cache may give again is recorded once, for all tasks that asked. Which of them got to ask the provider is a
matter of scheduling; a cassette that said so would be another one each time it is recorded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lmtrace_replay._format import in_order
from lmtrace_replay._recording import Recording

Slot = tuple[str, str | None]
"""The key of a request and its rollout."""


def slot_of(recording: Recording) -> Slot:
    """What recordings that answer the same request have in common."""
    rollout = recording.rollout_id
    return recording.request_key or recording.key(), None if rollout is None else str(rollout)


def placed(
    made: Sequence[Recording], repeated: Iterable[Recording], before: Iterable[Recording] = ()
) -> list[Recording]:
    """What was recorded, each recording with the task and the time of the first that asked for it.

    Args:
        made: Answers of the provider.
        repeated: The same answers, once more for each other task that was given one of them.
        before: Recordings that were there already: answers to the same requests came from them.
    """
    known = {slot_of(recording) for recording in before}
    counts = Counter(map(slot_of, made))
    first: dict[Slot, Recording] = {}
    for recording in in_order([*made, *repeated]):
        first.setdefault(slot_of(recording), recording)
    return [
        recording if counts[slot] > 1 or slot in known else _as_asked_by(first[slot], recording)
        for recording, slot in ((recording, slot_of(recording)) for recording in made)
    ]


def _as_asked_by(asker: Recording, recording: Recording) -> Recording:
    if asker is recording:
        return recording
    return replace(recording, path=asker.path, scope=asker.scope, timestamp_ns=asker.timestamp_ns)

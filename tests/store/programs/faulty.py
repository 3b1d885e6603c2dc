"""Run sessions of the store, each in a fork of its own where the n-th change on the disk fails or kills it.

Runs with faulty.c preloaded. Reads a JSON line for each session and answers with one: how it ended, which operation it
was, which rows were acknowledged, what was raised.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401  each fork would import it again
import orjson

from lmtrace._exporter import Record
from lmtrace_exporters import StoreError, StoreExporter, compact

shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
shim.faulty_count.restype = ctypes.c_long

Say = Callable[[str], None]
LARGE = 1_100_000


def record(uuid: str, day: int, size: int = 400) -> Record:
    """A call whose text says which one it is."""
    text = (uuid + " ") * (size // (len(uuid) + 1))
    row = {
        "kind": "call",
        "uuid": uuid,
        "timestamp": f"2020-11-{day:02}T10:00:00.000000Z",
        "model": "m",
        "messages": [{"role": "user", "content": text}],
        "schema_version": 1,
    }
    return Record("call", orjson.dumps(row))


def fill(store: str, prefix: str, say: Say, journals: int = 2) -> None:
    """Closed journals with rows of two days."""
    for number in range(journals):
        exporter = StoreExporter(store, compaction=False)
        uuids = [f"{prefix}{number}-{index}" for index in range(4)]
        exporter.export([record(uuid, 19 + index % 2) for index, uuid in enumerate(uuids)])
        exporter.export(
            [Record("span", b'{"kind":"span","span_id":"s","timestamp":"2020-11-20T00:00:00Z","name":"r"}')]
        )
        exporter.shutdown()
        for uuid in uuids:
            say(f"ack {uuid}")


def tried(say: Say, action: Callable[[], object]) -> bool:
    """Whether it raised nothing; what it may raise is said, anything else ends the session."""
    try:
        action()
    except (StoreError, OSError) as error:
        say(f"raised {type(error).__name__}: {error}")
        return False
    return True


def export(exporter: StoreExporter, say: Say, uuid: str, day: int, size: int = 400) -> None:
    say(f"export {uuid}")
    if tried(say, lambda: exporter.export([record(uuid, day, size)])):
        say(f"ack {uuid}")


def write(store: str, say: Say, arm: Callable[[], None]) -> None:
    """Rows one by one, journals that roll, a large payload, flushes, a second writer that syncs every row."""
    arm()
    exporter = StoreExporter(store, compaction=False, roll_bytes=1_500, durability="none")
    for number in range(8):
        export(exporter, say, f"w{number}", 19)
    say(f"flush {exporter.force_flush()}")
    export(exporter, say, "large", 20, LARGE)
    export(exporter, say, "after", 20)
    power = StoreExporter(store, compaction=False, roll_bytes=1_500, durability="power")
    for number in range(4):
        export(power, say, f"p{number}", 20)
    for each in (exporter, power):
        say(f"flush {each.force_flush()}")
        say(f"left {each.stats()['buffered']} {each.stats()['dropped']}")
        each.shutdown()


def compaction(store: str, say: Say, arm: Callable[[], None]) -> None:
    """Journals become segments, small segments become one, what was replaced goes."""
    fill(store, "a", say)
    compact(store, grace_seconds=0)
    fill(store, "b", say)
    arm()
    for _ in range(3):
        tried(say, lambda: compact(store, grace_seconds=0))


def tidying(store: str, say: Say, arm: Callable[[], None]) -> None:
    """The same with a damaged line and a damaged segment, which are quarantined."""
    fill(store, "a", say)
    compact(store, grace_seconds=0)
    fill(store, "b", say)
    flip(min(Path(store).glob("segments/*/*.parquet")))
    flip(min(Path(store, "journal").glob("*.jsonl")))
    arm()
    for _ in range(3):
        tried(say, lambda: compact(store, grace_seconds=0, thorough=True))


def rebuilding(store: str, say: Say, arm: Callable[[], None]) -> None:
    """The same with a damaged catalog, which is made again, and drafts of dead processes, which go."""
    fill(store, "a", say)
    compact(store, grace_seconds=0)
    fill(store, "b", say)
    with Path(store, "catalog.sqlite").open("r+b") as catalog:
        catalog.truncate(5_000)
    for draft in ("journal/1-host-1-0.tmp", "store.json.1-0.tmp"):
        Path(store, draft).touch()
    arm()
    for _ in range(3):
        tried(say, lambda: compact(store, grace_seconds=0))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)


SESSIONS = {"write": write, "compaction": compaction, "tidying": tidying, "rebuilding": rebuilding}


def run(order: dict[str, Any], fd: int) -> None:
    """One session, in this process."""

    def say(text: str) -> None:
        os.write(fd, f"{text}\n".encode())

    def arm() -> None:
        shim.faulty_arm(order["store"].encode(), ctypes.c_long(order["number"]), order["how"], order["code"], fd)

    try:
        SESSIONS[order["session"]](order["store"], say, arm)
    except BaseException:
        say("failed " + json.dumps(traceback.format_exc()))
    say(f"count {shim.faulty_count()}")


def forked(order: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        run(order, writing)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        lines = said.read().splitlines()
    return {"status": os.waitpid(child, 0)[1], "said": lines}


for line in sys.stdin:
    sys.stdout.write(json.dumps(forked(json.loads(line))) + "\n")
    sys.stdout.flush()

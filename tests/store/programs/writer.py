"""Write rows from several threads and acknowledge each on stdout after `export` returned.

Arguments: store, prefix of the uuids, threads, rows per thread (0: until killed), size of a row.
"""

import os
import sys
import threading

import orjson

from lmtrace._exporter import Record
from lmtrace_exporters import StoreExporter

store, prefix, threads, rows, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
exporter = StoreExporter(store, roll_bytes=int(os.environ.get("ROLL_BYTES", "200000")), compaction=False)


def write(thread: int) -> None:
    number = 0
    while not rows or number < rows:
        uuid = f"{prefix}-{thread}-{number}"
        row = {
            "kind": "call",
            "uuid": uuid,
            "timestamp": f"2026-11-21T09:{number // 60 % 60:02}:{number % 60:02}.000000Z",
            "model": "m",
            "messages": [{"role": "user", "content": "x" * size}],
            "schema_version": 1,
        }
        exporter.export([Record("call", orjson.dumps(row))])
        os.write(1, f"{uuid}\n".encode())
        number += 1


started = [threading.Thread(target=write, args=(thread,)) for thread in range(threads)]
for thread in started:
    thread.start()
for thread in started:
    thread.join()
exporter.shutdown()

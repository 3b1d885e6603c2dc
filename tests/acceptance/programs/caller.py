"""Make calls from several threads and acknowledge each on stdout after it has returned.

Arguments: threads, calls of each thread (0: until killed), characters of a prompt.
"""

from __future__ import annotations

import os
import sys
import threading

from instant import instant_lm, uuid_of

threads, calls, size = map(int, sys.argv[1:])


def make_calls() -> None:
    lm, number = instant_lm(), 0
    while not calls or number < calls:
        lm("x" * size)
        os.write(1, f"{uuid_of(lm)}\n".encode())
        number += 1


started = [threading.Thread(target=make_calls) for _ in range(threads)]
for thread in started:
    thread.start()
for thread in started:
    thread.join()

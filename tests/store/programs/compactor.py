"""Compact a store again and again until stdin is closed. Arguments: store, grace in seconds, chance to die at a step."""

import os
import random
import select
import signal
import sys

from lmtrace_exporters import compact

store, grace, chance = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])


def step(_: str) -> None:
    if random.random() < chance:
        os.kill(os.getpid(), signal.SIGKILL)


while True:
    compact(store, grace_seconds=grace, on_step=step)
    if select.select([sys.stdin], [], [], 0.02)[0]:
        break

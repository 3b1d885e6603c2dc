"""Arms measured side by side: every round runs a block of each arm in a new random order, so drift hits all alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Arm:
    """One thing to time."""

    name: str
    call: Callable[[], object]
    prepare: Callable[[], object] = lambda: None
    """Run before each block, outside the measurement."""
    settle: Callable[[], object] = lambda: None
    """Run after each block, outside the measurement: flushes, so that one arm's background work is not another's."""
    wall_ns: list[int] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def p50(self) -> float:
        """Microseconds."""
        return self.percentile(50)

    @property
    def p99(self) -> float:
        """Microseconds."""
        return self.percentile(99)

    def percentile(self, percent: float) -> float:
        times = sorted(self.wall_ns)
        return times[min(len(times) - 1, int(len(times) * percent / 100))] / 1000

    @property
    def cpu(self) -> float:
        """Microseconds of process CPU per call, background work of the block included."""
        return self.cpu_s * 1e6 / len(self.wall_ns)


def measure(arms: list[Arm], *, rounds: int = 40, block: int = 50, pause: float = 0.0, seed: int = 1) -> None:
    """Time every arm in `rounds` blocks of `block` calls; `pause` seconds lie between calls and are not counted."""
    order = random.Random(seed)
    for arm in arms:  # warm up
        _run_block(arm, 20, pause, keep=False)
    for _ in range(rounds):
        for arm in order.sample(arms, len(arms)):
            _run_block(arm, block, pause, keep=True)


def _run_block(arm: Arm, block: int, pause: float, *, keep: bool) -> None:
    arm.prepare()
    times = []
    clock, call = time.perf_counter_ns, arm.call
    cpu = time.process_time()
    for _ in range(block):
        start = clock()
        call()
        times.append(clock() - start)
        if pause:
            time.sleep(pause)
    arm.settle()
    if keep:
        arm.cpu_s += time.process_time() - cpu
        arm.wall_ns += times


def table(arms: list[Arm], base: Arm, floor: Arm | None = None) -> str:
    """The arms as a Markdown table: added to `base`, and as a ratio to what `floor` adds."""
    lines = [
        "| arm | p50 µs | p99 µs | added p50 | added p99 | CPU µs | ratio to floor |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm in arms:
        added = arm.p50 - base.p50
        ratio = f"{added / (floor.p50 - base.p50):.2f}" if floor is not None and floor.p50 > base.p50 else "–"
        lines.append(
            f"| {arm.name} | {arm.p50:.1f} | {arm.p99:.1f} | {added:+.1f} | {arm.p99 - base.p99:+.1f} "
            f"| {arm.cpu - base.cpu:+.0f} | {ratio} |"
        )
    return "\n".join(lines)

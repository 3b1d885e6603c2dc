"""Make as many calls as the argument says, and print as JSON what came back and what lmtrace says about itself."""

from __future__ import annotations

import json
import sys

from instant import instant_lm

import lmtrace

lm = instant_lm()
answers = [lm("x" * 5_000) == ["x" * 5_000] for _ in range(int(sys.argv[1]))]
json.dump({"answers": answers, "entries": len(lm.history), "stats": lmtrace.stats()}, sys.stdout)

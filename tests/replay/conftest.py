"""What the tests of replay share; the backend of the cache's tests is in `tellers`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

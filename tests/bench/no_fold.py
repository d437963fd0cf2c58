"""The relay without its fold, to measure what the fold costs: `python -m tests.bench.no_fold` for `gridgov relay`.

The product has no such switch: without the fold there are no cases.
"""

from __future__ import annotations

import threading

from service import app
from service.cases.fold import CaseFold
from service.ports import EVERYTHING


def _no_start(self: CaseFold, stop: threading.Event) -> None:
    self.folded = EVERYTHING


CaseFold.start = _no_start  # type: ignore[method-assign]
app.relay()

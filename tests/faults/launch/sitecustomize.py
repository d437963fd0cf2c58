"""Python imports this by itself when its directory is on PYTHONPATH: the test-only launcher of a sabotaged gridgov.

Nothing under service/ knows of it. Only what serves is touched, not the commands beside it.
"""

import os
import sys
from pathlib import Path

if "SABOTAGE" in os.environ and sys.orig_argv[-1] in ("web", "relay", "run"):
    sys.path.append(str(Path(__file__).parents[3]))
    from tests.faults import launcher

    launcher.begin(os.environ["SABOTAGE"], sys.orig_argv[-1])

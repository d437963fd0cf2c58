"""`make edge`: tries what is hostile, malformed, too much or personal, each with its control; a table at the end.

python -m tests.edge [--short] [--only REGEX] [--seed N]     exit code 1 when anything is not as demanded
"""

from __future__ import annotations

import tests.edge
from tests.edge.rows import ROWS
from tests.faults.table import main

if __name__ == "__main__":
    main(tests.edge, ROWS, __doc__, at_once=3)

"""`make faults`: tries every fault with its negative control, and ends with a table of demand and result.

python -m tests.faults [--short] [--only REGEX] [--seed N]     exit code 1 when anything is not as demanded
"""

from __future__ import annotations

import tests.faults
from tests.faults.rows import ROWS
from tests.faults.table import main

if __name__ == "__main__":
    main(tests.faults, ROWS, __doc__, at_once=2)

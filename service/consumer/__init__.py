"""`gridgov-consumer`: reads gridgov's topics exactly once into a database of the reader's own; a package by itself.

Installed alone (`pip install ./service/consumer`) it is called `gridgov_consumer` and needs kafka-python only, hence
its modules import each other relatively and nothing else of this repository.
"""

from .database import Database, DatabaseAway, UnknownDatabase, masked
from .reader import HOPELESS, Counts, Reader
from .report import Foreign, Report, Watermark
from .selection import Selection

__all__ = [
    "HOPELESS",
    "Counts",
    "Database",
    "DatabaseAway",
    "Foreign",
    "Reader",
    "Report",
    "Selection",
    "UnknownDatabase",
    "Watermark",
    "masked",
]

"""Which gridgov this is."""

import os
from importlib.metadata import version

VERSION = version("gridgov")
REVISION = os.environ.get("SOURCE_REVISION", "unknown")  # set when an image is built

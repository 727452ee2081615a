"""The moment from which ``train --minutes`` counts."""

import time

#: ``fastgan.cli`` imports this first: before torch is imported, which takes seconds.
STARTED = time.monotonic()

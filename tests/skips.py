"""What tests were skipped for, told in one line with the way to run them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

# A skip's reason to what it lacks and how to get it.
REMEDIES = {
    r"Chromium": "a browser (apt-get install chromium)",
    r"PostgreSQL": "a database (apt-get install postgresql)",
    r"Mosquitto": "a broker (apt-get install mosquitto)",
    r"openssl": "OpenSSL (apt-get install openssl)",
    r"shared|BLEMISH_SHARED": "real images and weights (set BLEMISH_SHARED)",
}
OTHERS = "what this system has not (see above)"


def told(reasons: Sequence[str]) -> str:
    """How many tests were skipped, and for want of what."""
    wanting: Counter[str] = Counter()
    for reason in reasons:
        known = (remedy for said, remedy in REMEDIES.items() if re.search(said, reason))
        wanting[next(known, OTHERS)] += 1
    parts = ", ".join(f"{count} for want of {what}" for what, count in wanting.most_common())
    count = f"{len(reasons)} test{'s' if len(reasons) != 1 else ''}"
    return f"{count} skipped: {parts}"

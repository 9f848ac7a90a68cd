"""A station to be killed: `python line_process.py FOLDER`, whose told.json has the settings.

It prints a line when it has started, and ends only by a signal.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from line_tools import Redness, running


def main() -> None:
    """Run the station of a folder."""
    folder = Path(sys.argv[1])
    inspector = Redness()
    inspector.seconds = 0.01
    with running(folder, inspector, **json.loads((folder / "told.json").read_text())):
        print("started", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()

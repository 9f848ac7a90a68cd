"""anomalib's side of deployed_speed.py: an export and its own inferencer, one file at a time.

python anomalib_turns.py WAY FOLDER THREADS     (in anomalib's environment)
"""

from __future__ import annotations

import sys
import warnings

import torch
from anomalib_worker import load_export
from work import answer

if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    way, folder, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    answer(*load_export(way, folder, int(threads)))

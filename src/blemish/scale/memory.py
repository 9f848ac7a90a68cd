"""How much memory this process holds and has held, where the system tells."""

from __future__ import annotations

from pathlib import Path


def memory_mb() -> dict[str, float]:
    """Resident memory `now` and its `peak`, in MB; empty where there is no /proc."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return {}
    sizes = {line.split(":")[0]: line.split() for line in lines if line.startswith("Vm")}
    names = {"now": "VmRSS", "peak": "VmHWM"}
    return {
        name: round(int(sizes[key][1]) * 1024 / 1e6, 1)
        for name, key in names.items()
        if key in sizes
    }

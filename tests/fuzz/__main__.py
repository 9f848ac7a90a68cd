"""The fuzzer's command line: counts a target and an outcome; exit status 1 for any finding."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2

from .seeds import bundles
from .workers import CPU_SECONDS, KINDS, Report, Run

RESULT = Path(__file__).parents[2] / "benchmarks" / "results" / "fuzz.json"


def main() -> int:
    """Run it."""
    os.environ["BLEMISH_THREADS"] = "1"  # a pool of threads would not survive the forks
    cv2.setNumThreads(1)
    options = _options()
    started = time.monotonic()
    with TemporaryDirectory(prefix="fuzz-bases-") as folder:
        bases = bundles(Path(folder), quick=options.quick)
        ready = time.monotonic()
        run = Run(
            bases, first=options.first, count=options.inputs, seed=options.seed,
            workers=options.workers, memory_mb=options.memory, trap=options.trap,
            seconds=options.seconds,
        )  # fmt: skip
        report = run.report(progress=options.progress)
    seconds = time.monotonic() - ready
    print(_table(report))
    for alike in _alike(report)[: options.show]:
        first = alike[0]
        numbers = ", ".join(str(finding["input"]) for finding in alike[:5])
        print(f"\n--- {len(alike)} x {first['kind']}, {first['target']}, inputs {numbers}")
        print(first["text"])
    print(
        f"{report.inputs} inputs in {seconds:.0f} s, after {ready - started:.0f} s for bundles; "
        f"most memory {report.peak_mb:.0f} MB, {report.base_mb:.0f} MB of it before the first; "
        f"{len(report.findings)} findings"
    )
    if options.write:
        _write(options, report, seconds, [base.name for base in bases])
    return 0 if report.clean else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then stop")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--memory", type=int, default=768, help="MiB that an input may take")
    parser.add_argument("--quick", action="store_true", help="only bundles that are made fast")
    parser.add_argument("--show", type=int, default=10, help="findings printed in full")
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    parser.add_argument("--trap", default="", help="some of crash,hang,memory,error: be noticed")
    return parser.parse_args()


def _alike(report: Report) -> list[list[dict[str, Any]]]:
    """Findings in groups of one kind and one place in the code, the most frequent first."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for finding in report.findings:
        places = [line for line in finding["text"].splitlines() if "/src/blemish/" in line]
        groups.setdefault(f"{finding['kind']}{places[-1:]}", []).append(finding)
    return sorted(groups.values(), key=len, reverse=True)


def _table(report: Report) -> str:
    used = [kind for kind in KINDS if any(count[kind] for count in report.counts.values())]
    rows = [["target", *used, "all"]]
    for target, count in sorted(report.counts.items()):
        rows.append([target, *(str(count[kind]) for kind in used), str(count.total())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def _write(options: argparse.Namespace, report: Report, seconds: float, bundles: list[str]) -> None:
    from benchmarks._record import write_result

    result = {
        "inputs": report.inputs,
        "bundles": bundles,
        "counts": {target: dict(count) for target, count in sorted(report.counts.items())},
        "findings": len(report.findings),
        "limits": {"memory_mib_an_input": options.memory, "cpu_seconds_an_input": CPU_SECONDS},
        "peak_mb": round(report.peak_mb),
        "peak_mb_before_the_first_input": round(report.base_mb),
        "seconds": round(seconds),
        "workers": options.workers,
    }
    write_result(
        RESULT, {key: json.loads(json.dumps(value)) for key, value in result.items()}, options.seed
    )


if __name__ == "__main__":
    raise SystemExit(main())

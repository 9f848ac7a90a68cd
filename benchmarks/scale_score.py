"""Batch scoring: this machine's processes against Ray, with one worker and two, in one run.

    python benchmarks/scale_score.py --root MVTEC_DIR [--images 20000] [--fewer 5000]

    python benchmarks/scale_score.py --root MVTEC_DIR --long --rows ray:2 --images 20000

does a row of many images, kept beside the others to see its memory.

Scores a list that names bottle's real images again and again, with a bundle made here (by default a
small one, so that engines and not matching are measured). Each row is a
process of its own; each worker has one thread. `--images` are for two workers, `--fewer` for one.
Writes benchmarks/results/scale_score.json after each row.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "scale_score.json"
ROWS = ["local:1", "ray:1", "local:2", "ray:2"]
PART = 250


def made(root: Path, folder: Path, size: int, sheets: int) -> Path:
    """The bundle that all rows score with."""
    from blemish import HETMM, Inspector

    inspector = Inspector(HETMM(sheets=sheets), size=size)
    inspector.fit(root / "bottle/train/good").calibrate(false_alarm_rate=0.01)
    inspector.save(folder / "bottle.blemish")
    return folder / "bottle.blemish"


def row(engine: str, workers: int, bundle: Path, source: Path, out: Path) -> dict[str, Any]:
    """One row, measured in this process."""
    import cv2

    from blemish.scale import score
    from blemish.scale.memory import memory_mb

    cv2.setNumThreads(1)
    if engine == "ray":
        start_ray(workers)
    began, reports = time.perf_counter(), []

    def told(report: dict[str, Any]) -> None:
        here = {"seconds": time.perf_counter() - began, "driver_mb": memory_mb()["now"]}
        here["cpu"] = processor_seconds()
        reports.append({**here, "worker_mb": report["memory_mb"]["now"], "part": report["part"]})

    summary = score(
        bundle, source, out, engine=engine, workers=workers, rows_per_part=PART, told=told
    )
    first, last = reports[0], reports[-1]
    steady = (len(reports) - 1) * PART / (last["seconds"] - first["seconds"])
    return {
        "engine": engine,
        "workers": workers,
        "images": summary.images,
        "verdicts": summary.verdicts,
        "positions_once": once(out, summary.images),
        "seconds": summary.seconds,
        "images_per_second": summary.images_per_second,
        "images_per_second_after_first_part": round(steady, 2),
        "seconds_to_first_part": round(first["seconds"], 2),
        "processor_seconds": round(last["cpu"], 1),
        "processor_ms_per_image_after_first_part": round(
            1e3 * (last["cpu"] - first["cpu"]) / ((len(reports) - 1) * PART), 2
        ),
        "memory": memory(reports),
    }


def start_ray(workers: int) -> None:
    """A Ray with as many cores as workers, so that each has one thread; not part of the time."""
    from blemish.scale.engines.ray import RayEngine

    RayEngine(workers)._start()
    import ray

    ray.shutdown()
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


def processor_seconds() -> float:
    """Processor time of this process and all below it: workers, and Ray's own processes."""
    times, parents = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[int(path.parent.name)] = int(fields[1])
        times[int(path.parent.name)] = sum(map(int, fields[11:15]))  # with ended children
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(times[pid] for pid in ours) / os.sysconf("SC_CLK_TCK")


def once(out: Path, count: int) -> bool:
    """Whether every position of the list is in the results exactly once."""
    import pyarrow.parquet as pq

    parts = sorted(out.glob("part-*"))
    found = [n for part in parts for n in pq.read_table(part)["position"].to_pylist()]
    return found == list(range(count))


def memory(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Resident memory in MB over the run: medians of its quarters and the most, by process."""
    found: dict[str, Any] = {}
    for name in ("worker_mb", "driver_mb"):
        values = [report[name] for report in reports]
        step = max(1, len(values) // 4)
        quarters = [values[start : start + step] for start in range(0, 4 * step, step)]
        found[name] = {
            "quarters": [round(statistics.median(part), 1) for part in quarters if part],
            "most": max(values),
        }
    return found


def in_a_process(arguments: list[str]) -> dict[str, Any]:
    """One row in a process of its own, on one thread a worker."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "BLEMISH_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, **one}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Efficiency of two workers by the clock, and what Ray costs in processor time."""
    by_name = {row["name"]: row for row in rows}
    if set(by_name) != set(ROWS):
        return {}
    rate = {name: row["images_per_second_after_first_part"] for name, row in by_name.items()}
    cost = {n: row["processor_ms_per_image_after_first_part"] for n, row in by_name.items()}
    return {
        "efficiency_of_two": {
            name: round(rate[f"{name}:2"] / (2 * rate[f"{name}:1"]), 3) for name in ("local", "ray")
        },
        "ray_against_local_images_per_second": {
            count: round(rate[f"ray:{count}"] / rate[f"local:{count}"], 3) for count in (1, 2)
        },
        "ray_against_local_processor_time": {
            count: round(cost[f"ray:{count}"] / cost[f"local:{count}"], 3) for count in (1, 2)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=lambda text: Path(text).absolute())
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--fewer", type=int, default=5_000)
    parser.add_argument("--long", action="store_true", help="Rows apart from those compared.")
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--sheets", type=int, default=4)
    parser.add_argument("--note", default="", help="What else the machine was doing.")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--row", nargs=5, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row is not None:
        engine, workers, bundle, source, out = given.row
        print(json.dumps(row(engine, int(workers), Path(bundle), Path(source), Path(out))))
        return
    images = sorted(map(str, given.root.glob("bottle/test/*/*.png")))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = made(given.root, folder, given.size, given.sheets)
        for name in given.rows:
            engine, workers = name.split(":")
            count = given.images if workers == "2" else given.fewer
            source = folder / f"{count}.txt"
            source.write_text("\n".join(images[n % len(images)] for n in range(count)))
            asked = [
                "--row",
                engine,
                workers,
                *map(str, (bundle, source, folder / engine / workers)),
            ]
            found = {"name": name, **in_a_process(asked)}
            found |= {"load": os.getloadavg(), "ended": time.strftime("%FT%TZ", time.gmtime())}
            print(json.dumps(found), flush=True)
            keep(given, found, len(images))


def keep(given: argparse.Namespace, found: dict[str, Any], images: int) -> None:
    """Put a row into the results, in place of an older one of its name."""
    from _record import write_result

    kept = json.loads(given.json.read_text()) if given.json.is_file() else {}
    kind = "long" if given.long else "rows"
    rows = {row["name"]: row for row in kept.get(kind, [])} | {found["name"]: found}
    lists = {"rows": kept.get("rows", []), "long": kept.get("long", []), kind: list(rows.values())}
    result = {
        "note": given.note, "size": given.size, "sheets": given.sheets, "rows_per_part": PART,
        "distinct_images": images, **lists, "compared": compared(lists["rows"]),
    }  # fmt: skip
    write_result(given.json, result)


if __name__ == "__main__":
    main()

"""A plant of 500 lines at 20 parts a second: queues, outages and retries, and what it costs.

    python benchmarks/plant.py [--json benchmarks/results/plant.json] [--postgres URL] [--smoke]

What an inspection takes comes from benchmarks/results/line_pc.json; sizes of results are
measured here, and with --postgres how many of them that database takes a second (without it, the
kept figure serves). ASSUMED holds what nobody measured. One line is simulated part by part, the
plant by batches of results (plant_model.py); both with SimPy and a seed. docs/plant.md tells it.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from _record import write_result
from plant_model import Flow, Service, simulate_line, simulate_plant

RESULTS = Path(__file__).parent / "results"
LINES, RATE, CELLS = 500, 20.0, 50
THREADS = 2  # of one worker, as line_pc.json was measured
DAY = 86_400
ASSUMED = {
    "false_alarm_rate": 1e-4,
    "defect_rate": 1e-3,
    "sampled_good": 1e-4,  # good parts whose picture is kept, for drift and calibrating again
    "jpeg_bytes": 93_960,  # one MVTec bottle of 900 x 900 px at quality 90
    "png_bytes": 529_392,  # mean of four such originals
    "deadline_s": 1.0,  # from the camera to the ejector
    "stall_s": 2.0,  # a line PC does something else
    "stall_every_s": 600.0,
    "slow_database": 0.5,  # times the rate kept: other runs on the shared machine gave 9,700
    "line_pc_cores": 8, "line_pc_eur": 1500, "line_pc_watt": 100, "line_pc_mtbf_hours": 50_000,
    "station_eur": 3000, "database_eur": 15_000, "databases": 2, "learning_eur": 10_000,
    "store_eur_tb_month": 20.0, "eur_kwh": 0.20, "cloud_eur_core_hour": 0.04,
    "years": 5, "days_a_year": 300, "review_seconds": 3.0, "shift_hours": 7.0,
    "days_exceptions_png": 30, "days_exceptions_jpeg": 365, "days_good_jpeg": 365,
    "days_results": 730,
}  # fmt: skip


def measured() -> dict[str, float]:
    """What an inspection takes: bottle, HETMM by its defaults, 256 px, ONNX Runtime."""
    rows = json.loads((RESULTS / "line_pc.json").read_text())["rows"]
    row = next(r for r in rows if (r["category"], r["runtime"]) == ("bottle", "onnx"))
    return {
        "p50_ms": row["p50_ms"],
        "p95_ms": row["p95_ms"],
        "resident_mb": row["resident_mb"],
        "core_seconds": THREADS * row["p50_ms"] / 1e3,
        "fit_seconds": row["fit_seconds"] + row["calibrate_seconds"],
    }


def result_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Results as a station gets them, scores drawn at random."""
    generator = np.random.default_rng(seed)
    scores = generator.gamma(9.0, 0.02, count).astype(np.float32)
    return [
        {"id": f"line-{index % LINES:03}/{index:012}", "line": index % LINES, "score": float(score),
         "at": 1.76e9 + index / (LINES * RATE) + round(float(ms) / 1e3, 6),
         "p_value": round(float(p), 4), "threshold": 0.4127, "verdict": "pass", "version": 3,
         "latency_ms": round(float(ms), 2), "regions": []}
        for index, (score, p, ms) in enumerate(
            zip(scores, generator.uniform(size=count), generator.normal(92, 4, count), strict=True)
        )
    ]  # fmt: skip


def result_bytes(seed: int) -> dict[str, float]:
    """Bytes of one result: as JSON on the wire, and of many in a Parquet file (zstd)."""
    import pyarrow
    import pyarrow.parquet

    rows = result_rows(50_000, seed)
    file = io.BytesIO()
    table = pyarrow.Table.from_pylist([{**row, "regions": "[]"} for row in rows])
    pyarrow.parquet.write_table(table, file, compression="zstd")
    return {
        "json": len(json.dumps(rows).encode()) / len(rows),
        "parquet": file.getbuffer().nbytes / len(rows),
    }


def database_rate(url: str, seed: int, count: int = 200_000, batch: int = 1000) -> dict[str, Any]:
    """Rows a second that a PostgreSQL takes in transactions of `batch`, each row once by its id."""
    import psycopg

    rows = result_rows(count, seed)
    names = ("id", "line", "score", "p_value", "threshold", "verdict", "version", "latency_ms")
    kinds = ("text", "int", "real", "real", "real", "text", "int", "real")
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds, strict=True))
    arrays = ", ".join(f"%s::{kind}[]" for kind in kinds)
    with psycopg.connect(url) as connection:
        connection.execute("drop table if exists plant_results")
        connection.execute(f"create table plant_results ({columns}, primary key (id))")
        connection.execute("create index on plant_results (line, id)")
        connection.commit()
        insert = f"insert into plant_results select * from unnest({arrays}) on conflict do nothing"
        began = time.perf_counter()
        for start in range(0, count, batch):
            part = rows[start : start + batch]
            connection.execute(insert, [[row[name] for row in part] for name in names])
            connection.commit()
        seconds = time.perf_counter() - began
        size = connection.execute("select pg_total_relation_size('plant_results')").fetchone()
        connection.execute("drop table plant_results")
    return {
        "rows": count,
        "batch": batch,
        "connections": 1,
        "rows_a_second": round(count / seconds),
        "bytes_a_row": round(size[0] / count, 1),
    }


def storage(sizes: dict[str, float], database: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What is kept: items a second, bytes a second, days, and terabytes when that is reached."""
    images = LINES * RATE
    exceptions = images * (ASSUMED["false_alarm_rate"] + ASSUMED["defect_rate"])
    good = images * ASSUMED["sampled_good"]
    kept = {
        "results, all, Parquet": (images, sizes["parquet"], ASSUMED["days_results"]),
        "results of exceptions, database": (
            exceptions, database["bytes_a_row"], ASSUMED["days_results"]),
        "exceptions, PNG": (exceptions, ASSUMED["png_bytes"], ASSUMED["days_exceptions_png"]),
        "exceptions, JPEG": (exceptions, ASSUMED["jpeg_bytes"], ASSUMED["days_exceptions_jpeg"]),
        "good parts, sampled, JPEG": (good, ASSUMED["jpeg_bytes"], ASSUMED["days_good_jpeg"]),
        "(not kept) all images, PNG": (images, ASSUMED["png_bytes"], 1),
        "(not kept) all images, JPEG": (images, ASSUMED["jpeg_bytes"], 1),
        "(not kept) all results, database": (images, database["bytes_a_row"], 1),
    }  # fmt: skip
    return {
        name: {"a_second": round(rate, 3), "mb_a_second": round(rate * size / 1e6, 4),
               "days": days, "tb": round(rate * size * DAY * days / 1e12, 3)}
        for name, (rate, size, days) in kept.items()
    }  # fmt: skip


def costs(found: dict[str, float], kept: dict[str, dict[str, float]]) -> dict[str, float]:
    """Euros per million images, own machines written off over the years; and the cloud's cores."""
    a = ASSUMED
    millions = LINES * RATE * DAY * a["days_a_year"] * a["years"] / 1e6
    hours = a["days_a_year"] * 24 * a["years"]
    tb = sum(row["tb"] for name, row in kept.items() if not name.startswith("(not"))
    parts = {
        "line PCs": LINES * a["line_pc_eur"],
        "line PCs' power": LINES * a["line_pc_watt"] / 1e3 * hours * a["eur_kwh"],
        "stations": CELLS * a["station_eur"],
        "databases": a["databases"] * a["database_eur"],
        "learning machine": a["learning_eur"],
        "object store": tb * a["store_eur_tb_month"] * 12 * a["years"],
    }
    each = {name: round(eur / millions, 4) for name, eur in parts.items()}
    cloud = found["core_seconds"] * 1e6 / 3600 * a["cloud_eur_core_hour"]
    return {**each, "sum": round(sum(parts.values()) / millions, 3),
            "instead of line PCs: cores of a cloud": round(cloud, 3)}  # fmt: skip


def bandwidth(sizes: dict[str, float]) -> dict[str, float]:
    """Megabits a second of a line, a cell and the plant; as designed, and with every original."""
    pictures = ASSUMED["false_alarm_rate"] + ASSUMED["defect_rate"] + ASSUMED["sampled_good"]
    line = RATE * (sizes["json"] + pictures * ASSUMED["png_bytes"]) * 8 / 1e6
    raw = RATE * 900 * 900 * 3 * 8 / 1e6
    every = RATE * ASSUMED["png_bytes"] * 8 / 1e6
    found = {
        "camera to line PC, 900 x 900 px": raw,
        "line": line, "cell": line * LINES / CELLS, "plant": line * LINES,
        "line, every original": every, "cell, every original": every * LINES / CELLS,
        "plant, every original": every * LINES,
        "line PC's disk, every part as JPEG, GB a day":
            RATE * ASSUMED["jpeg_bytes"] * DAY / 1e9,
    }  # fmt: skip
    return {name: round(value, 2) for name, value in found.items()}


def reviews() -> list[dict[str, float]]:
    """Good parts rejected, and the people who would look at each, by the promised rate."""
    day = LINES * RATE * DAY
    work = ASSUMED["shift_hours"] * 3600 / ASSUMED["review_seconds"]
    return [
        {"false_alarm_rate": rate, "a_second": LINES * RATE * rate, "a_day": round(day * rate),
         "people": round(day * rate / work, 1), "good_parts_to_promise": round(1 / rate) - 1,
         "minutes_of_one_line": round((1 / rate - 1) / RATE / 60, 1)}
        for rate in (1e-2, 1e-3, 1e-4, 1e-5)
    ]  # fmt: skip


def loads(found: dict[str, float], flow: Flow, sizes: dict[str, float]) -> dict[str, float]:
    """How many times today's load each thing carries before it is full, least first."""
    line_pc = ASSUMED["line_pc_cores"] / THREADS * 1e3 / found["p50_ms"] / RATE
    uplink = 1e9 / 8 / (flow.lines_a_cell * RATE * sizes["json"])
    carries = {
        "line PC (8 cores)": line_pc,
        "database, every result": flow.database_rate / (LINES * RATE),
        "database, exceptions only": flow.database_rate
        / (LINES * RATE * (ASSUMED["false_alarm_rate"] + ASSUMED["defect_rate"])),
        "uplink of a cell (1 Gbit/s), every result": uplink,
        "uplink of a cell, every original": 1e9 / 8
        / (flow.lines_a_cell * RATE * ASSUMED["png_bytes"]),
    }  # fmt: skip
    return {name: round(times, 2) for name, times in sorted(carries.items(), key=lambda x: x[1])}


def show(title: str, value: Any) -> None:
    """One table of the result, for people."""
    print(f"\n{title}")
    rows = value if isinstance(value, list) else [value]
    for row in rows:
        print("  " + ", ".join(f"{name} {item}" for name, item in row.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=RESULTS / "plant.json")
    parser.add_argument("--postgres", metavar="URL", help="measure inserts there; makes a table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="minutes of the plant, not an hour")
    given = parser.parse_args()
    found, sizes = measured(), result_bytes(given.seed)
    if given.postgres:
        database = database_rate(given.postgres, given.seed)
    else:
        database = json.loads((RESULTS / "plant.json").read_text())["database"]
    service = Service(found["p50_ms"] / 1e3, found["p95_ms"] / 1e3,
                      ASSUMED["stall_s"], ASSUMED["stall_every_s"])  # fmt: skip
    seconds = 120 if given.smoke else 3600
    one_line = [
        simulate_line(service, RATE, workers, ASSUMED["deadline_s"], seconds, given.seed)
        for workers in (1, 2, 3, 4, 6)
    ]
    small = Flow(LINES, CELLS, RATE, database["rows_a_second"])
    slow = replace(small, database_rate=ASSUMED["slow_database"] * small.database_rate)
    exceptions = ASSUMED["false_alarm_rate"] + ASSUMED["defect_rate"]
    plant = [
        simulate_plant(flow, share, load, jitter, 0.1 if given.smoke else 1.0, given.seed)
        for flow, share, load, jitter in (
            (small, 1.0, 1.0, True), (small, 1.0, 1.0, False), (small, 1.0, 1.5, True),
            (slow, 1.0, 1.0, True), (slow, exceptions, 1.0, True),
        )
    ]  # fmt: skip
    kept = storage(sizes, database)
    result = {
        "measured": found, "result_bytes": sizes, "database": database, "assumed": ASSUMED,
        "one_line": one_line, "plant": plant, "storage": kept, "eur_a_million": costs(found, kept),
        "reviews": reviews(), "times_the_load": loads(found, small, sizes),
        "line_pc_failures_a_month": round(LINES * 720 / ASSUMED["line_pc_mtbf_hours"], 1),
        "core_hours": {
            "fit and calibrate every inspector on 209 images": round(
                LINES * found["fit_seconds"] * THREADS / 3600, 1),
            "score the good parts of the promised rate": round(
                LINES * (1 / ASSUMED["false_alarm_rate"] - 1) * found["core_seconds"] / 3600, 1),
        },
        "bandwidth_mbit": bandwidth(sizes),
    }  # fmt: skip
    for name, value in result.items():
        if name != "assumed":
            rows = [{"": key, **row} for key, row in value.items()] if name == "storage" else value
            show(name, rows if isinstance(rows, dict | list) else {name: rows})
    write_result(given.json, result, seed=given.seed)


if __name__ == "__main__":
    main()

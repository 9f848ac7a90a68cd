"""Mutual matching beside what one could write instead: milliseconds, one query at a time.

    python benchmarks/matching.py [--backbone efficientnet_lite0] [--sheets 48 60]

The levels of the presets `default` and `paper` on a backbone at 256 px, unit vectors drawn at
random, float32, medians. `ours`: the product's TemplateSet.distances. `offset_loop`: for each
offset of the window the products with the shifted query, running maxima, in NumPy. `unfold`: each
pixel's window unfolded, then a product a row. `product`: one plain matrix product of ONNX Runtime
with as many multiplications as the largest windows need, N sum_l C H W max(f, b)^2.
Kept in benchmarks/results/matching.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from _record import write_result
from blemish.backbones import LevelFeatures, create_backbone, features_graph
from blemish.bundle import Level
from blemish.detectors import HETMM
from blemish.detectors.hetmm.matching import Matcher, make_matcher, match_graph
from blemish.detectors.hetmm.templates import TemplateSet
from blemish.detectors.hetmm.vectors import MemoryVectors
from blemish.graphs.nodes import Nodes, model, tensor, to_bytes
from blemish.graphs.sessions import OnnxSession

WAYS = ("ours", "offset_loop", "unfold", "product")
Floats = npt.NDArray[np.float32]


def unit(*shape: int, axis: int, seed: int = 0) -> Floats:
    """Vectors of length 1 along an axis."""
    drawn = np.random.default_rng(seed).standard_normal(shape, np.float32)
    drawn /= np.linalg.norm(drawn, axis=axis, keepdims=True)
    return drawn


def levels_of(backbone: str, preset: Any, size: int) -> list[Level]:
    """The levels that a preset matches on a backbone, for views of `size`."""
    config = HETMM(preset=preset, backbone=backbone).config.resolved()
    assert config.pool is not None
    asked = [
        LevelFeatures(number, f"level{number}", pool=pool)
        for number, pool in zip(config.levels, config.pool, strict=True)
    ]
    made: Any = create_backbone(backbone, levels=config.levels, taps=config.taps)
    session = OnnxSession(features_graph(made, asked, (size, size)), backbone)
    found = session.run({"image": np.zeros((1, size, size, 3), np.float32)})
    return [
        level(found[each.output].shape[1:], *config.directions(n), each.number, each.pool)
        for n, each in enumerate(asked)
    ]


def level(
    shape: tuple[int, ...], forward: int | None, backward: int | None,
    alpha: float = 0.5, number: int = 1, pool: int = 1,
) -> Level:  # fmt: skip
    """A level of sheets [C, H, W] with search radii."""
    return Level(
        number=number, kind="sheets", pool=pool, channels=shape[0], height=shape[1],
        width=shape[2], features=f"level{number}", dtype="float32", forward=forward,
        backward=backward, alpha=alpha,
    )  # fmt: skip


def drawn_set(one: Level, sheets: int) -> TemplateSet:
    """A template set drawn at random."""
    shape = (one.height * one.width, one.channels, sheets)
    return TemplateSet(one, MemoryVectors(unit(*shape, axis=1)))


def drawn_query(one: Level) -> Floats:
    """Features of a query, too."""
    return unit(one.channels, one.height, one.width, axis=0, seed=1)


def offset_loop(query: Floats, templates: TemplateSet) -> tuple[Floats, Floats]:
    """Largest cosines there and back, [H, W], an offset at a time."""
    one = templates.level
    height, width, reach = one.height, one.width, one.reach
    vectors = templates.vectors.band(0, height * width).reshape(height, width, one.channels, -1)
    there, back = np.full((2, height, width), -np.inf, np.float32)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            rows = slice(max(0, -down), height - max(0, down))
            columns = slice(max(0, -right), width - max(0, right))
            rows_q = slice(max(0, down), height - max(0, -down))
            columns_q = slice(max(0, right), width - max(0, -right))
            shifted = query[:, rows_q, columns_q].transpose(1, 2, 0)[:, :, None]
            best = (shifted @ vectors[rows, columns]).max((2, 3))
            far = max(abs(down), abs(right))
            if one.backward is not None and far <= one.backward:
                np.maximum(back[rows, columns], best, out=back[rows, columns])
            if one.forward is not None and far <= one.forward:
                np.maximum(there[rows_q, columns_q], best, out=there[rows_q, columns_q])
    return there, back


def unfold(query: Floats, templates: TemplateSet) -> None:
    """The volume V by unfolding the query's window around each pixel, a row of pixels at a time."""
    one = templates.level
    side = 2 * one.reach + 1
    padded = np.pad(query, ((0, 0), *[(one.reach, one.reach)] * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (1, 2))
    for row in range(one.height):
        patches = windows[:, row].transpose(1, 2, 3, 0).reshape(one.width, side * side, -1)
        vectors = templates.vectors.band(row * one.width, (row + 1) * one.width)
        np.matmul(patches, vectors).max(2)


def product(one: Level, sheets: int) -> Callable[[], Any]:
    """A product with as many multiplications as the level needs, and of the same depth."""
    side = round((sheets * one.height * one.width) ** 0.5 * (2 * one.reach + 1))
    left, right = np.ones((side, one.channels), np.float32), np.ones((one.channels, side))
    nodes = Nodes()
    nodes.add("MatMul", "a", "b", outputs=["c"])
    inputs = [tensor("a", left.shape), tensor("b", right.shape)]
    graph = nodes.graph("product", inputs, [tensor("c", (side, side))])
    session = OnnxSession(to_bytes(model(graph)), "the product")
    values = {"a": left, "b": right.astype(np.float32)}
    return lambda: session.run(values)


def milliseconds(work: Callable[[], Any], repeats: int) -> float:
    """The median time of `work`."""
    work()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(taken), 2)


def measure(one: Level, sheets: int, repeats: int, matcher: Matcher) -> dict[str, Any]:
    """All ways on one level."""
    templates, query = drawn_set(one, sheets), drawn_query(one)
    slow = max(1, repeats // 5)
    return {
        "channels": one.channels, "side": one.height,
        "forward": one.forward, "backward": one.backward,
        "ours_ms": milliseconds(lambda: templates.distances(matcher, query), repeats),
        "offset_loop_ms": milliseconds(lambda: offset_loop(query, templates), slow),
        "unfold_ms": milliseconds(lambda: unfold(query, templates), slow),
        "product_ms": milliseconds(product(one, sheets), repeats),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--preset", nargs="+", default=["default", "paper"])
    parser.add_argument("--sheets", type=int, nargs="+", default=[HETMM().config.sheets, 60])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/matching.json"))
    given = parser.parse_args()
    matcher, rows = make_matcher(match_graph()), []
    print(f"| preset | sheets | {' | '.join(WAYS)} |\n|---|---{'|---' * len(WAYS)}|")
    for preset in given.preset:
        levels = levels_of(given.backbone, preset, given.size)
        for sheets in given.sheets:
            each = [measure(one, sheets, given.repeats, matcher) for one in levels]
            total = {f"{way}_ms": round(sum(r[f"{way}_ms"] for r in each), 2) for way in WAYS}
            rows.append({"preset": preset, "sheets": sheets, **total, "levels": each})
            cells = [f"{total[f'{way}_ms']:.1f}" for way in WAYS]
            print(f"| {preset} | {sheets} | {' | '.join(cells)} |", flush=True)
    found = {"backbone": given.backbone, "size": given.size, "rows": rows}
    write_result(given.json, found, seed=0)


if __name__ == "__main__":
    main()

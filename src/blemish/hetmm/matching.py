"""Affine-invariant template mutual matching (ATMM), from one matrix-multiply volume.

Every query pixel is compared with every template pixel within a window, and back (Chen et al.,
HETMM, IJCV 2024; docs/hetmm.md):

    forward   F(q) = 1 - max_k max_{|o| <= f//2} <T_k(q - o), Q(q)>
    backward  B(p) = 1 - max_k max_{|o| <= b//2} <T_k(p), Q(p + o)>

Both are maxima of V[p, o] = max_k <T_k(p), Q(p + o)>, so V is computed once. The map is cut into
t x t tiles; a tile's template vectors times the query patch it can reach is one dense product,
which runs near the machine's matrix-multiply rate (docs/matching.md):

    (n t^2 x C) . (C x B P^2),   P = t + 2r,   r = max(f, b) // 2

Letters: n sheets of a block, C channels, H x W map, B queries, t tile side, P patch side, R x S
tiles.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import ParameterError
from blemish.hetmm.bank import TILE, Block, MemoryBlock, TileBank
from blemish.runtime.nearest import Floats, Match, Samples, backward_match, forward_match

BUFFER_BYTES = 2 << 20  # one product stays near the cores, in their caches
CUDA_BUFFER_BYTES = 256 << 20  # few large products keep a GPU busy


def mutual_match(
    query: Tensor,
    bank: TileBank,
    *,
    forward: int,
    backward: int,
    exclude: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Distances there and back, [B, H, W] in [0, 2], of unit vectors `query` [B, C, H, W].

    `forward` and `backward` are odd window sides in pixels of this level; 0 leaves a direction out
    and gives zeros for it. `exclude` [B] names one sample a query to leave out (-1: none), which
    is how a sheet is scored against all others.
    """
    check_windows(forward, backward)
    batch, _, height, width = query.shape
    _check_shapes(query, bank)
    reach = 2 * max(height, width) - 1  # from one border to the other: wider windows see no more
    forward, backward = min(forward, reach), min(backward, reach)
    if forward == 0 and backward == 0:
        nothing = query.new_zeros(batch, height, width, dtype=torch.float)
        return nothing, nothing.clone()
    if _wants_triton(query, bank):
        from blemish.hetmm.triton_matching import triton_match

        return triton_match(query, bank, forward, backward, exclude)
    return _tile_match(query, bank, forward, backward, exclude)


def best_match(
    query: Tensor,
    bank: TileBank,
    points: Sequence[tuple[int, int]],
    forward: int,
    backward: int,
    *,
    exclude: int = -1,
) -> list[dict[str, Match]]:
    """For each map pixel (y, x) of one query [1, C, H, W] the pairs that give F and B there.

    `forward`: the pixel is the query's and the template's is searched; `backward`: the other way
    round. A direction that is off has no entry. `exclude` names a sample to leave out.
    """
    check_windows(forward, backward)
    _check_shapes(query, bank)
    if len(query) != 1:
        raise ParameterError(f"{len(query)} queries were given; matches are told for one at a time")
    for y, x in points:
        if not (0 <= y < bank.height and 0 <= x < bank.width):
            raise ParameterError(
                f"there is no pixel ({y}, {x}) on a map of {bank.height}x{bank.width}"
            )
    rounded = query[0].to(bank.dtype).float()  # as the templates are, so that one finds itself
    image = rounded.cpu().numpy()
    found: list[dict[str, Match]] = [{} for _ in points]

    # A search goes along rows of pixels, so a row of tiles is fetched once and not for each pixel.
    @lru_cache(maxsize=len(bank.blocks))
    def tiles(number: int, row: int) -> Floats:
        return bank.blocks[number].row(row).float().cpu().numpy()  # (S, n t t, C)

    def vectors(y: int, x: int) -> Iterator[tuple[int, Floats, Samples]]:
        row, column = y // TILE, x // TILE
        pixel = y % TILE * TILE + x % TILE
        for number, (first, block) in enumerate(bank.numbered()):
            if block.sources is None:
                samples = np.arange(first, first + block.sheets)
            else:
                samples = block.sources[row, column, pixel :: TILE**2].cpu().numpy()
            yield first, tiles(number, row)[column, pixel :: TILE**2], samples

    for (y, x), matches in zip(points, found, strict=True):
        if forward:
            matches["forward"] = forward_match(image, vectors, y, x, forward // 2, exclude)
        if backward:
            matches["backward"] = backward_match(image, vectors, y, x, backward // 2, exclude)
    return found


def directions_needed(forward: int, backward: int, alpha: float) -> tuple[int, int, float]:
    """Windows and alpha without what counts nothing: a direction that is off, or of weight 0.

    A direction that is off (window 0) leaves all the weight to the other.
    """
    if forward == 0 or backward == 0:
        alpha = float(backward == 0)
    return (0 if alpha == 0 else forward), (0 if alpha == 1 else backward), alpha


def check_windows(forward: int, backward: int) -> None:
    """Raise unless both window sides are odd whole numbers of pixels, or 0 for off."""
    for name, window in (("forward", forward), ("backward", backward)):
        if window < 0 or (window % 2 == 0 and window != 0):
            raise ParameterError(
                f"the {name} window is {window}; windows are odd whole numbers of pixels, or 0 "
                "for a direction left out"
            )


def _tile_match(
    query: Tensor, bank: TileBank, forward: int, backward: int, exclude: Tensor | None
) -> tuple[Tensor, Tensor]:
    batch, _, height, width = query.shape
    reach = max(forward, backward) // 2
    side = TILE + 2 * reach  # P
    rows, columns = bank.tile_grid
    rest = (0, 0, reach, reach + columns * TILE - width, reach, reach + rows * TILE - height)
    # Stored vectors are rounded; the query is rounded alike, so that a template finds itself.
    rounded = query.to(bank.dtype).to(product_dtype(bank.dtype, query.device.type))
    padded = F.pad(rounded.permute(0, 2, 3, 1), rest)  # (B, H', W', C)
    real = query.new_ones(height, width, dtype=torch.bool)
    inside = F.pad(real, rest[2:])  # (H', W')
    is_template = F.pad(real, (0, columns * TILE - width, 0, rows * TILE - height))

    # Forward maxima of one tile fall on its whole patch, so neighbours overlap; backward ones on
    # the tile itself. Patches are cut in t x t blocks, so overlaps line up block by block.
    blocks = -(-side // TILE)
    shape = (batch, rows + blocks - 1, TILE, columns + blocks - 1, TILE)
    forward_best = query.new_full(shape, -torch.inf, dtype=torch.float)
    backward_best = query.new_empty((batch, rows, TILE, columns, TILE), dtype=torch.float)
    far = {window: ~_window_mask(window, reach, query.device) for window in (forward, backward)}
    is_template = is_template.reshape(rows, TILE, columns, TILE)
    products = _Products(bank, padded, exclude, batch * side * side)

    for row in range(rows):
        top = row * TILE
        strip = padded[:, top : top + side].unfold(2, side, TILE)  # (B, P, S, C, P)
        strip = strip.permute(2, 0, 1, 4, 3).reshape(columns, batch * side * side, -1)
        volume = products.best(row, strip)
        # (S, t, t, B, P, P): tile pixel p against patch pixel q; outside the map never wins.
        volume = volume.view(columns, TILE, TILE, batch, side, side)
        seen = inside[top : top + side].unfold(1, side, TILE).permute(1, 0, 2)  # (S, P, P)
        unseen = ~seen[:, None, None, None]
        if backward:
            best = volume.masked_fill(unseen | far[backward], -torch.inf).amax((-1, -2))
            backward_best[:, row] = best.permute(3, 1, 0, 2)  # (S, t, t, B) to (B, t, S, t)
        if forward:
            padding = ~is_template[row].permute(1, 0, 2)[..., None, None, None]
            best = volume.masked_fill_(padding | far[forward], -torch.inf).amax((1, 2))
            _fold_max(forward_best, best, row, blocks)

    there = forward_best.view(batch, (rows + blocks - 1) * TILE, (columns + blocks - 1) * TILE)
    there = there[:, reach : reach + height, reach : reach + width]
    back = backward_best.view(batch, rows * TILE, columns * TILE)[:, :height, :width]
    return (
        -there if forward else torch.zeros_like(there),
        -back if backward else torch.zeros_like(back),
    )


class _Products:
    """max_k <T_k(p), Q(q)> - 1 for one row of tiles after the other, in buffers used again.

    Fresh buffers cost page faults, up to the product itself. Half-precision products accumulate
    in float32 but are stored rounded, so 1 is taken off before: what is rounded then is the
    distance, relative to itself, and not the cosine, relative to 1.
    """

    def __init__(self, bank: TileBank, query: Tensor, exclude: Tensor | None, patch: int) -> None:
        self.bank, self.exclude = bank, exclude
        self.batch, self.patch = len(query), patch
        rows = max(block.sheets for block in bank.blocks) * TILE**2
        budget = BUFFER_BYTES if query.device.type == "cpu" else CUDA_BUFFER_BYTES
        columns = bank.tile_grid[1]
        self.step = min(columns, max(1, budget // (rows * patch * query.element_size())))
        self.product = query.new_empty(self.step * rows * patch)
        self.converted: Tensor | None = None
        if query.dtype != bank.dtype:
            self.converted = query.new_empty(self.step * rows * bank.channels)
        shape = (columns, TILE**2, patch)
        self.found = query.new_empty(self.step, *shape[1:])
        self.total = query.new_empty(shape, dtype=torch.float)

    def best(self, row: int, patches: Tensor) -> Tensor:
        """[S, t t, B P P] for tile row `row`, float32; `patches` is [S, B P P, C]."""
        self.total.fill_(-torch.inf)
        for first, block in self.bank.numbered():
            tiles = block.row(row)
            for start in range(0, len(tiles), self.step):
                part = slice(start, min(start + self.step, len(tiles)))
                product = self._multiply(tiles[part], patches[part])
                product = product.view(len(product), block.sheets, TILE**2, -1)
                if self.exclude is not None:
                    self._leave_out(product, block, first, row, part)
                found = self.found[: len(product)]
                torch.amax(product, 1, out=found)
                torch.maximum(self.total[part], found, out=self.total[part])
        if self.product.dtype == torch.float32:
            self.total -= 1
        return self.total

    def _multiply(self, tiles: Tensor, patches: Tensor) -> Tensor:
        count, vectors, _ = tiles.shape
        if self.converted is not None:
            buffer = self.converted[: tiles.numel()].view(tiles.shape)
            tiles = buffer.copy_(tiles)
        product = self.product[: count * vectors * self.patch].view(count, vectors, self.patch)
        if product.dtype == torch.float32:
            return torch.bmm(tiles, patches.transpose(1, 2), out=product)
        product.fill_(-1)
        return torch.baddbmm(product, tiles, patches.transpose(1, 2), out=product)

    def _leave_out(self, product: Tensor, block: Block, first: int, row: int, part: slice) -> None:
        """Set a query's products with its excluded sample to -inf."""
        assert self.exclude is not None
        by_query = product.view(*product.shape[:3], self.batch, -1)
        for index, sample in enumerate(self.exclude.tolist()):
            if sample < 0:
                continue
            if block.sources is not None:
                own = (block.sources[row, part] == sample).view(*product.shape[:3], 1)
                by_query[:, :, :, index].masked_fill_(own, -torch.inf)
            elif first <= sample < first + block.sheets:
                by_query[:, sample - first, :, index] = -torch.inf


def _wants_triton(query: Tensor, bank: TileBank) -> bool:
    """Whether the fused kernel does it: on CUDA where Triton is, unless BLEMISH_MATCHING=torch.

    `triton` asks for it anywhere, which on a CPU is Triton's interpreter, for tests.
    """
    way = os.environ.get("BLEMISH_MATCHING", "auto")
    if way not in ("auto", "torch", "triton"):
        raise ParameterError(f"BLEMISH_MATCHING is '{way}'; it must be auto, torch or triton")
    in_memory = all(isinstance(block, MemoryBlock) for block in bank.blocks)
    if way == "torch" or not in_memory:
        return False
    return way == "triton" or (query.is_cuda and find_spec("triton") is not None)


@cache
def product_dtype(stored: torch.dtype, device: str) -> torch.dtype:
    """What products of vectors stored in this type are computed in.

    Processors without bfloat16 arithmetic, and all with float16, multiply faster in float32.
    """
    if device != "cpu" or stored == torch.float32:
        return stored
    fast = (
        stored == torch.bfloat16
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
    return torch.bfloat16 if fast else torch.float32


def _fold_max(target: Tensor, patches: Tensor, row: int, blocks: int) -> None:
    """Raise `target` [B, R', t, S', t] to the overlapping patches [S, B, P, P] of one tile row."""
    count, batch, side, _ = patches.shape
    extra = blocks * TILE - side
    patches = F.pad(patches, (0, extra, 0, extra), value=-torch.inf)
    cells = patches.reshape(count, batch, blocks, TILE, blocks, TILE)
    cells = cells.permute(1, 2, 3, 4, 0, 5)  # (B, block row, t, block column, S, t)
    for column in range(blocks):
        region = target[:, row : row + blocks, :, column : column + count]
        torch.maximum(region, cells[:, :, :, column], out=region)


def _window_mask(window: int, reach: int, device: torch.device) -> Tensor:
    """Which patch pixels lie in the window around each tile pixel: [t, t, 1, P, P]."""
    tile = torch.arange(TILE, device=device) + reach
    patch = torch.arange(TILE + 2 * reach, device=device)
    near = (tile[:, None] - patch[None]).abs() <= window // 2  # (t, P)
    return (near[:, None, :, None] & near[None, :, None, :])[:, :, None]


def _check_shapes(query: Tensor, bank: TileBank) -> None:
    _, channels, height, width = query.shape
    if (channels, height, width) != (bank.channels, bank.height, bank.width):
        raise ParameterError(
            f"the query's map is {channels}x{height}x{width}, the templates' "
            f"{bank.channels}x{bank.height}x{bank.width}; give both one backbone and size"
        )

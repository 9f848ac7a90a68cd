"""Location-free matching: a query pixel may find its template anywhere on the map.

For textures, and parts without a fixed place: ATMM's forward direction with a window as large as
the map (HETMM.md section 3),

    F(q) = 1 - max_k max_p <T_k(p), Q(q)>

in which a template vector's own place no longer matters. So the vectors of all sheets form one
flat set, which can be thinned out (coreset.py) and reduced to its principal components: one matrix
product a query. There is no backward direction, since "is this template here?" needs a here.

Letters: M vectors of C channels reduced to D, B queries of H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import ParameterError
from blemish.hetmm.coreset import k_centre
from blemish.hetmm.matching import product_dtype
from blemish.imaging import Progress
from blemish.runtime.nearest import Match

BUFFER_BYTES = 32 << 20  # one product of pixels and vectors
_RUN = 65_536  # vectors added up at a time
_THINNED_ON = 64  # directions that decide which vectors stay


@dataclass(frozen=True)
class FreeBank:
    """One level's template vectors [M, D], each of length 1, without a place.

    `sources` [M] and `places` [M] ((copy * H + y) * W + x) tell in which augmented copy of which
    sample each was seen, and where: for leaving a sample out and for explanations. `components`
    [C, D] reduces features first; None: they stay as they are.
    """

    vectors: Tensor
    sources: Tensor
    places: Tensor
    components: Tensor | None
    height: int
    width: int

    @property
    def has_sources(self) -> bool:
        """Whether new sheets need the number of their sample: always."""
        return True

    def distances(self, query: Tensor, *, exclude: Tensor | None = None) -> Tensor:
        """F [B, H, W] in [0, 2] of unit vectors `query` [B, C, H, W].

        `exclude` [B] names one sample a query to leave out (-1: none).
        """
        self._check_shape(query)
        wanted = reduced(query, self.components)  # (B, H W, D)
        best = wanted.new_full(wanted.shape[:2], -torch.inf)
        left_out = None if exclude is None else exclude[:, None].to(self.sources)  # (B, 1)
        for start, closeness in self._products(wanted):
            if left_out is not None:
                own = self.sources[None, start : start + closeness.shape[2]] == left_out  # (B, m)
                if bool(own.any()):
                    closeness = closeness.masked_fill(own[:, None], -torch.inf)
            torch.maximum(best, closeness.amax(2), out=best)
        return (-best).reshape(len(query), self.height, self.width)

    def best_match(
        self, query: Tensor, points: Sequence[tuple[int, int]]
    ) -> list[dict[str, Match]]:
        """The template vector behind F at each (y, x) of one query [1, C, H, W], as `forward`.

        The match's sheet is the number of its sample's copy.
        """
        self._check_shape(query)
        wanted = reduced(query, self.components)[0]  # (H W, D)
        found = []
        for y, x in points:
            pixel = wanted[y * self.width + x]
            closeness = torch.cat([part[0, 0] for _, part in self._products(pixel[None, None])])
            at = int(closeness.argmax())
            copy, place = divmod(int(self.places[at]), self.height * self.width)
            row, column = divmod(place, self.width)
            match = Match(copy, int(self.sources[at]), row, column, -float(closeness[at]))
            found.append({"forward": match})
        return found

    def extended(self, sheets: Tensor, *, sources: Tensor | None) -> Self:
        """With every vector of more sheets [N, C, H, W], whose samples are `sources` [N, H, W]."""
        self._check_shape(sheets)
        if sources is None:
            raise ParameterError("new sheets of a location-free level need their samples' numbers")
        vectors = reduced(sheets, self.components).flatten(0, 1).to(self.vectors)
        places = _places(sources[:, 0, 0], self.height * self.width)
        return replace(
            self,
            vectors=torch.cat([self.vectors, vectors]),
            sources=torch.cat([self.sources, sources.flatten().to(self.sources)]),
            places=torch.cat([self.places, places.to(self.places)]),
        )

    def without(self, sample: int) -> Self:
        """Without the vectors of a sample; later samples' numbers move down by one."""
        kept = self.sources != sample
        if not bool(kept.any()):
            raise ParameterError(
                "this sample is the last template; add another before it is removed"
            )
        sources = self.sources[kept]
        return replace(
            self,
            vectors=self.vectors[kept],
            sources=sources - (sources > sample).to(sources.dtype),
            places=self.places[kept],
        )

    def state(self) -> dict[str, Tensor | None]:
        """Everything as named tensors."""
        return {
            "level": self.vectors,
            "sources": self.sources,
            "places": self.places,
            "components": self.components,
            "shape": torch.tensor([self.height, self.width], dtype=torch.int32),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> FreeBank:
        """What `state` gave."""
        height, width = state["shape"].tolist()
        return cls(
            state["level"],
            state["sources"],
            state["places"],
            state.get("components"),
            height,
            width,
        )

    def _products(self, wanted: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Cosine - 1 [B, P, m] float32 of pixels [B, P, D] with runs of m vectors from `start`.

        1 is taken off inside the product, so that half precision rounds the distance and not 1.
        """
        batch, pixels, _ = wanted.shape
        dtype = product_dtype(self.vectors.dtype, self.vectors.device.type)
        # Stored vectors are rounded; the query is rounded alike, so that a template finds itself.
        rows = wanted.flatten(0, 1).to(self.vectors.dtype).to(dtype)
        minus_one = rows.new_full((1,), -1)
        step = max(1, BUFFER_BYTES // (4 * len(rows)))
        for start in range(0, len(self.vectors), step):
            part = self.vectors[start : start + step].to(dtype)
            yield start, torch.addmm(minus_one, rows, part.T).float().reshape(batch, pixels, -1)

    def _check_shape(self, maps: Tensor) -> None:
        channels = len(self.components) if self.components is not None else self.vectors.shape[1]
        if tuple(maps.shape[1:]) != (channels, self.height, self.width):
            raise ParameterError(
                f"the query's map is {'x'.join(map(str, maps.shape[1:]))}, the templates' "
                f"{channels}x{self.height}x{self.width}; give both one backbone and size"
            )


class FreeBuilder:
    """Gathers a level's vectors batch by batch, and thins them out whenever they are too many."""

    def __init__(
        self, components: Tensor | None, *, limit: int, dtype: torch.dtype, progress: Progress
    ) -> None:
        self._components, self._limit, self._dtype = components, limit, dtype
        self._progress = progress
        self._parts: list[Tensor] = []
        self._sources: list[Tensor] = []
        self._places: list[Tensor] = []
        self._count = 0
        self._shape = (0, 0)

    def add(self, level: Tensor, samples: Tensor) -> None:
        """Take in unit vectors [N, C, H, W] of `samples` [N]; a sample's copies lie in a row."""
        height, width = level.shape[-2:]
        self._shape = (height, width)
        vectors = reduced(level, self._components).flatten(0, 1).to(self._dtype)
        self._parts.append(vectors)
        self._sources.append(samples.int().repeat_interleave(height * width))
        self._places.append(_places(samples, height * width))
        self._count += len(vectors)
        if self._count > 4 * self._limit:  # memory stays bounded, whatever the images' number
            self._thin()

    def bank(self) -> FreeBank:
        """What was gathered, at most the limit of vectors."""
        self._thin()
        device = self._parts[0].device
        return FreeBank(
            self._parts[0],
            self._sources[0].to(device),
            self._places[0].to(device),
            self._components,
            *self._shape,
        )

    def _thin(self) -> None:
        vectors, sources, places = (
            torch.cat(parts) for parts in (self._parts, self._sources, self._places)
        )
        if len(vectors) > self._limit:
            # The strongest directions tell near from far at a part of the cost.
            directions = _strongest(_second_moment(vectors), _THINNED_ON)
            short = F.normalize(vectors.float() @ directions, dim=1)
            kept = k_centre(short, self._limit, progress=self._progress)
            here = kept.cpu()
            vectors, sources, places = vectors[kept], sources[here], places[here]
        self._parts, self._sources, self._places = [vectors], [sources], [places]
        self._count = len(vectors)


def principal_components(levels: Iterator[Tensor], count: int | None) -> Tensor | None:
    """The `count` strongest directions [C, D] of unit vectors [N, C, H, W] given in batches.

    Not centred, so that cosines stay cosines. None where there is nothing to reduce.
    """
    if count is None:
        return None
    total: Tensor | None = None
    for level in levels:
        vectors = level.movedim(1, -1).flatten(0, -2).float()  # (N H W, C)
        if vectors.shape[1] <= count:
            return None
        second = _second_moment(vectors)
        total = second if total is None else total + second
    assert total is not None  # there is an image to learn from
    return _strongest(total, count)


def reduced(maps: Tensor, components: Tensor | None) -> Tensor:
    """Maps [B, C, H, W] as unit vectors [B, H W, D], float32."""
    vectors = maps.float().flatten(2).transpose(1, 2)  # (B, H W, C)
    return vectors if components is None else F.normalize(vectors @ components, dim=2)


def _second_moment(vectors: Tensor) -> Tensor:
    """Sum of outer products [C, C] of vectors [M, C], in float64 so that runs do not matter."""
    total = vectors.new_zeros(vectors.shape[1], vectors.shape[1], dtype=torch.double)
    for part in torch.split(vectors, _RUN):
        wide = part.double()
        total += wide.T @ wide
    return total


def _strongest(second: Tensor, count: int) -> Tensor:
    """The `count` directions [C, count], float32, along which a second moment [C, C] is largest."""
    _, directions = torch.linalg.eigh(second)  # ascending
    found: Tensor = directions[:, -count:].float()
    return found.contiguous()


def _places(samples: Tensor, pixels: int) -> Tensor:
    """Places of the vectors of sheets, counted on through the copies of one sample, int32."""
    runs = groupby(samples.tolist())
    copies = torch.tensor([copy for _, run in runs for copy, _ in enumerate(run)])  # (N,)
    return (copies[:, None] * pixels + torch.arange(pixels)).flatten().int()

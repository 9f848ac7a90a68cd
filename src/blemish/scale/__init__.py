"""Past one machine: scoring of very many images, many inspectors at once, on existing engines."""

from blemish.scale.maps import packed_map, read_map
from blemish.scale.running import Summary, score

__all__ = ["Summary", "packed_map", "read_map", "score"]

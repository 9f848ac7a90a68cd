"""Reading, framing and drawing images; OpenCV and Pillow are imported at first use."""

from blemish.imaging.drawing import encode_jpeg, encode_png, overlay
from blemish.imaging.files import (
    IMAGE_SUFFIXES,
    TEMPORARY_NAME,
    atomic_file,
    atomic_write,
    expand,
    list_images,
    sync_folder,
    umask,
)
from blemish.imaging.measures import measured
from blemish.imaging.raster import Raster
from blemish.imaging.reading import (
    MAX_PIXELS,
    largest_file,
    read_encoded,
    read_image,
    read_raster,
    read_samples,
)
from blemish.imaging.sequence import ImageSequence, Progress, digest, silent
from blemish.imaging.tiled_view import TiledView, framed, view_from_dict
from blemish.imaging.tiling import Tiling
from blemish.imaging.view import Seen, View

__all__ = [
    "read_image",
    "read_encoded",
    "read_samples",
    "read_raster",
    "Raster",
    "largest_file",
    "MAX_PIXELS",
    "View",
    "Seen",
    "Tiling",
    "TiledView",
    "measured",
    "view_from_dict",
    "framed",
    "ImageSequence",
    "digest",
    "Progress",
    "silent",
    "IMAGE_SUFFIXES",
    "list_images",
    "expand",
    "TEMPORARY_NAME",
    "atomic_file",
    "atomic_write",
    "sync_folder",
    "umask",
    "overlay",
    "encode_png",
    "encode_jpeg",
]

"""Reading, framing and drawing images; OpenCV and Pillow are imported at first use."""

from blemish.imaging.drawing import encode_jpeg, encode_png, overlay
from blemish.imaging.files import IMAGE_SUFFIXES, atomic_write, expand, list_images, umask
from blemish.imaging.reading import MAX_PIXELS, read_image
from blemish.imaging.sequence import ImageSequence, Progress, digest, silent
from blemish.imaging.tiling import Tiling
from blemish.imaging.view import Seen, View

__all__ = [
    "read_image",
    "MAX_PIXELS",
    "View",
    "Seen",
    "Tiling",
    "ImageSequence",
    "digest",
    "Progress",
    "silent",
    "IMAGE_SUFFIXES",
    "list_images",
    "expand",
    "atomic_write",
    "umask",
    "overlay",
    "encode_png",
    "encode_jpeg",
]

"""Streams: frames from a folder, video, camera or iterable, and their results as they come."""

from blemish.streams.camera import Camera
from blemish.streams.capture import Capture, Opener
from blemish.streams.folder import WatchedFolder
from blemish.streams.inspecting import Stream, StreamResult, inspect_stream
from blemish.streams.source import BaseSource, Frame, Health, Images, Source
from blemish.streams.timings import StageSummary, Timings
from blemish.streams.video import VideoFile

__all__ = [
    "inspect_stream",
    "Stream",
    "StreamResult",
    "Frame",
    "Health",
    "Source",
    "BaseSource",
    "Images",
    "WatchedFolder",
    "VideoFile",
    "Camera",
    "Capture",
    "Opener",
    "Timings",
    "StageSummary",
]

"""Every error Blemish raises on purpose: one small tree, one clear sentence each.

A message says what was wrong, where, and what to do. `code` is the stable name that
appears in JSON (`{"error": {"code", "message"}}`); the sentence may change, the code may not.
"""

from __future__ import annotations


class BlemishError(Exception):
    """Base of all errors that are the user's to mend; `str(error)` is one printable sentence."""

    code = "blemish"

    def __str__(self) -> str:
        # Names of files and keys are the user's: a newline or half a character in one of them must
        # not break the line, the log or the terminal.
        text = super().__str__()
        return text if text.isprintable() else "".join(map(_printable, text))


# Images ---------------------------------------------------------------------------------


class ImageError(BlemishError):
    """An image could not be turned into pixels."""

    code = "image"


class ImageMissingError(ImageError):
    """There is no file at this path."""

    code = "image_missing"


class ImageEmptyError(ImageError):
    """The file or buffer has no bytes."""

    code = "image_empty"


class ImageFormatError(ImageError):
    """The bytes are not an image in a format Blemish reads."""

    code = "image_format"


class ImageTruncatedError(ImageError):
    """The image ends before its pixels do, or its data is damaged."""

    code = "image_truncated"


class ImageSizeError(ImageError):
    """The image has no pixels, or more than the limit."""

    code = "image_size"


class ImageAnimatedError(ImageError):
    """The file holds several frames; one part has one picture."""

    code = "image_animated"


class ImageArrayError(ImageError):
    """An array breaks the contract on shape, dtype or range."""

    code = "image_array"


# Everything else ------------------------------------------------------------------------


class ParameterError(BlemishError):
    """An option has a value that cannot work."""

    code = "parameter"


class NotFittedError(BlemishError):
    """Something was asked of an inspector that has not learned yet."""

    code = "not_fitted"


class ProcessLostError(BlemishError):
    """Another process of a training in several has gone or cannot be reached."""

    code = "process_lost"


class NoImagesError(BlemishError):
    """A folder or list holds no image, or too few."""

    code = "no_images"


class CalibrationError(BlemishError):
    """The asked false-alarm rate cannot be promised; `needed` good parts would do."""

    code = "calibration"

    def __init__(self, message: str, *, needed: int | None = None) -> None:
        super().__init__(message)
        self.needed = needed


class WeightsError(BlemishError):
    """Backbone weights are missing, damaged or do not fit the network."""

    code = "weights"


class WeightsMissingError(WeightsError):
    """The weights are not in the local store; the message names both ways to get them."""

    code = "weights_missing"


class BundleError(BlemishError):
    """A bundle is missing, damaged, or not for this version."""

    code = "bundle"


class ExportError(BlemishError):
    """The exported graphs would not give what the original gives, or cannot be made."""

    code = "export"


class SourceError(BlemishError):
    """What a stream comes from cannot be opened, or has gone."""

    code = "source"


class VideoError(SourceError):
    """A file is not a video, or ends before its frames do."""

    code = "video"


class CameraError(SourceError):
    """A camera cannot be opened, or gives no more frames."""

    code = "camera"


class DatasetError(BlemishError):
    """A dataset's folder does not have the layout it should."""

    code = "dataset"


class MissingExtraError(BlemishError):
    """A part of Blemish is asked for whose extra is not installed."""

    code = "missing_extra"


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()

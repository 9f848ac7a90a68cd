"""What a station is told: `station.toml` in the folder of bundles, and the command line over it."""

from __future__ import annotations

import platform
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from blemish.errors import ParameterError

FILE = "station.toml"
DATA = "station"  # folder beside the bundles: database, images, maps

Label = Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Part):
    """What is refused or waited for, so that nothing is lost when more comes than can be done."""

    workers: int = Field(default=1, ge=1, le=64)  # images inspected at once
    queue: int = Field(default=16, ge=0, le=4096)  # that may wait; beyond: 429 with Retry-After
    upload_mib: float = Field(default=32, gt=0, le=2048)
    batch: int = Field(default=64, ge=1, le=4096)  # images in one batch request
    timeout_s: float = Field(default=30, gt=0, le=3600)  # then 503; the result is still recorded
    max_pixels: int = Field(default=100_000_000, ge=1)


class Retention(_Part):
    """How long pictures and maps are kept; rows of results are kept until told otherwise.

    Pictures of parts in the review queue, proposed as templates, or in the regression set stay.
    """

    images_days: float | None = Field(default=90, gt=0)
    maps_days: float | None = Field(default=30, gt=0)
    rows_days: float | None = Field(default=None, gt=0)
    images_gib: float | None = Field(default=None, gt=0)
    every_s: float = Field(default=600, gt=0)


class FolderSource(_Part):
    """Images as they appear in a folder."""

    kind: Literal["folder"]
    name: Label
    inspector: str
    path: Path
    settle_s: float = Field(default=0.5, ge=0)
    existing: bool = True


class CameraSource(_Part):
    """A camera's frames through OpenCV: an index, a device or a URL."""

    kind: Literal["camera"]
    name: Label
    inspector: str
    address: str | int
    every_s: float = Field(default=0, ge=0)  # at least so long between two frames
    timeout_s: float = Field(default=5, gt=0)


class Broker(_Part):
    """An MQTT broker."""

    host: str
    port: int = Field(default=1883, ge=1, le=65535)
    tls: bool = False
    username: str | None = None
    password_file: Path | None = None
    client_id: str | None = None


class MqttSource(_Part):
    """Images published on a topic; acknowledged to the broker once they are recorded."""

    kind: Literal["mqtt"]
    name: Label
    inspector: str
    broker: Broker
    topic: str = "blemish/images"


class MqttSink(_Part):
    """Results published with QoS 1; `{station}`, `{inspector}` and `{verdict}` are filled in."""

    kind: Literal["mqtt"]
    name: Label
    broker: Broker
    topic: str = "blemish/results/{station}/{inspector}"


class WebhookSink(_Part):
    """Results posted as JSON, signed with HMAC-SHA256, tried again and again."""

    kind: Literal["webhook"]
    name: Label
    url: str = Field(pattern=r"^https?://")
    secret_file: Path | None = None
    timeout_s: float = Field(default=10, gt=0)
    tries: int = Field(default=12, ge=1)  # then it is a dead letter, which a person can send again


class CsvSink(_Part):
    """One line a result in a file a day."""

    kind: Literal["csv"]
    name: Label
    path: Path


class DigitalSink(_Part):
    """A pass or fail level for a PLC: `fail` unless `pass` was found in time.

    Written to a file, such as a GPIO's `value` or a named pipe; other parts than those of
    `inspector` do not matter to it.
    """

    kind: Literal["digital"]
    name: Label
    inspector: str
    path: Path
    deadline_ms: float = Field(default=500, gt=0)
    hold_ms: float = Field(default=0, ge=0)  # then back to fail; 0: until the next part arrives
    pass_value: str = "1"
    fail_value: str = "0"


SourceSettings = Annotated[FolderSource | CameraSource | MqttSource, Field(discriminator="kind")]
SinkSettings = Annotated[
    MqttSink | WebhookSink | CsvSink | DigitalSink, Field(discriminator="kind")
]


class DriftSettings(_Part):
    """When the last `window` parts differ from the calibration set so that a person should look."""

    window: int = Field(default=200, ge=20, le=100_000)
    false_alarm_rate: float = Field(default=0.001, gt=0, lt=1)  # of each look at all measures
    every_s: float = Field(default=60, gt=0)


class Settings(_Part):
    """Everything a station is told; paths are relative to the folder of bundles."""

    bundles: Path
    name: Label = Field(default_factory=lambda: _own_name())
    data: Path = Path(DATA)
    db: str | None = None  # a SQLAlchemy URL; None: SQLite in `data`
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    device: str = "auto"
    hosts: tuple[str, ...] = ()  # names by which browsers reach it, besides its address
    anonymous: bool = True  # on loopback, whoever has no token may look
    session_hours: float = Field(default=12, gt=0)
    limits: Limits = Limits()
    retention: Retention = Retention()
    drift: DriftSettings = DriftSettings()
    sources: tuple[SourceSettings, ...] = ()
    sinks: tuple[SinkSettings, ...] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Settings:
        for what, parts in (("sources", self.sources), ("sinks", self.sinks)):
            names = [part.name for part in parts]
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"two {what} are called '{min(twice)}'; give each its own name")
        return self

    @field_validator("bundles")
    @classmethod
    def _is_folder(cls, path: Path) -> Path:
        if not path.is_dir():
            raise ValueError(f"{path} is not a folder; give the folder that holds the bundles")
        return path.absolute()

    @property
    def folder(self) -> Path:
        """Where the station keeps its data."""
        return self.below(self.data)

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.db or f"sqlite:///{self.folder / 'station.db'}"

    def below(self, path: Path) -> Path:
        """A path of these settings, from the folder of bundles."""
        return self.bundles / path.expanduser()


def read_settings(bundles: Path, **given: Any) -> Settings:
    """The settings of a folder of bundles: its `station.toml`, if any, and what is `given` over it.

    Raises ParameterError with the first thing that is wrong, and where.
    """
    file = bundles / FILE
    told: dict[str, Any] = {}
    if file.is_file():
        try:
            told = tomllib.loads(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ParameterError(f"{file} cannot be read: {error}") from error
    told |= {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(bundles=bundles, **told)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        place = f"{file}: " if first["loc"] and first["loc"][0] in told and file.is_file() else ""
        raise ParameterError(f"{place}{where + ': ' if where else ''}{message}") from error
    except TypeError as error:  # `bundles` in the file
        raise ParameterError(f"{file}: bundles: this is the folder the file lies in") from error


def _own_name() -> str:
    return re.sub(r"[^\w.-]+", "-", platform.node())[:64] or "station"

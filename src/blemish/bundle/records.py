"""What all records of a manifest have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Immutable; an unknown key means another format or a slip, and neither may pass in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

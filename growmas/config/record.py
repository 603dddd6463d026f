"""Base class of all records of a config."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Immutable record; unknown keys and values of another type are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

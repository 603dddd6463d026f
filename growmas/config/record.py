"""What all records of a config have in common."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Immutable; unknown keys and values of another type are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

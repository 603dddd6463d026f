"""Mistakes in the values of a config, each with its remedy."""

import re
from types import UnionType
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from growmas.config.experiment import Experiment
from growmas.config.formatting import KeyPath, show
from growmas.data.names import did_you_mean
from growmas.suggestion import closest


def explain(error: ValidationError) -> list[tuple[KeyPath, str]]:
    """Return the key path of each mistake, with what was expected and what was given.

    Args:
        error: raised by ``Experiment.model_validate``. Errors of the experiment as a whole are left
            out: ``conflicts`` reports them for each key.
    """
    return [_explain(detail) for detail in error.errors(include_url=False) if detail["loc"]]


def _explain(detail: ErrorDetails) -> tuple[KeyPath, str]:
    path, record, field = _locate(detail["loc"])
    value = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            return path, f"unknown key; {did_you_mean(str(path[-1]), record.model_fields)}"
        case "union_tag_not_found" | "union_tag_invalid":
            kinds = list(_kinds(field))
            if "kind" not in value:
                return (*path, "kind"), f"missing, expected {' or '.join(kinds)}"
            got = _got(value["kind"], kinds)
            return (*path, "kind"), f"expected {' or '.join(kinds)}, {got}"
        case "value_error":
            return path, str(detail["ctx"]["error"])
        case "missing":
            return path, f"missing, expected {_expected(field)}"
        case "literal_error":
            options = re.findall(r"'(\w+)'", detail["ctx"]["expected"])
            return path, f"expected {_expected(field)}, {_got(value, options)}"
        case _:
            return path, f"expected {_expected(field)}, got {show(value)}"


def _locate(location: tuple[int | str, ...]) -> tuple[KeyPath, type[BaseModel], FieldInfo | None]:
    """Return the key path of a pydantic location, its record, and its field if it has one.

    Below a field of several kinds, a pydantic location names the kind; a key path does not.
    """
    path: list[str | int] = []
    record: type[BaseModel] = Experiment
    field: FieldInfo | None = None
    kinds: dict[str, type[BaseModel]] = {}
    for part in location:
        if kinds:
            record, kinds = kinds[str(part)], {}
            continue
        path.append(part)
        if isinstance(part, int):
            continue
        field = record.model_fields.get(part)
        kinds = _kinds(field)
        nested = _records(field)
        if nested and not kinds:
            record = nested[0]
    return tuple(path), record, field


def _kinds(field: FieldInfo | None) -> dict[str, type[BaseModel]]:
    """Return the records that a field with a ``kind`` may hold, by kind."""
    return {
        get_args(record.model_fields["kind"].annotation)[0]: record
        for record in _records(field)
        if "kind" in record.model_fields
    }


def _records(field: FieldInfo | None) -> list[type[BaseModel]]:
    if field is None:
        return []
    annotation = field.annotation
    members = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return [
        member for member in members if isinstance(member, type) and issubclass(member, BaseModel)
    ]


def _expected(field: FieldInfo | None) -> str:
    return (field and field.description) or "another value"


def _got(value: object, options: list[str]) -> str:
    near = closest(str(value), options)
    return f"got {show(value)}" + (f'; did you mean "{near}"?' if near else "")

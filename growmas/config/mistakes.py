"""Mistakes in the values of a config, each with its remedy."""

import re
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from growmas.config.experiment import Experiment
from growmas.config.formatting import KeyPath, listed, show
from growmas.data.names import did_you_mean
from growmas.suggestion import closest


def explain(error: ValidationError) -> list[tuple[KeyPath, str]]:
    """Return the key path of each mistake, with what was expected and what was given.

    Args:
        error: raised by ``Experiment.model_validate``. Errors of the experiment as a whole are left
            out: ``conflicts`` reports them for each key.
    """
    found = [_explain(detail) for detail in error.errors(include_url=False) if detail["loc"]]
    paths = [path for path, _ in found]
    whole = {path[:-1] for path in paths}  # of a list with a wrong item, the item is told
    return list(dict.fromkeys(each for each in found if each[0] not in whole))


def _explain(detail: ErrorDetails) -> tuple[KeyPath, str]:
    path, record, field, annotation = _locate(detail["loc"])
    value = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            return path, f"unknown key; {did_you_mean(str(path[-1]), record.model_fields)}"
        case "union_tag_not_found" | "union_tag_invalid":
            kinds = list(kinds_of(annotation))
            if not isinstance(value, dict):
                return path, f"expected {_expected(field)}, got {show(value)}"
            if "kind" not in value:
                return (*path, "kind"), f"missing, expected {listed(kinds)}"
            got = _got(value["kind"], kinds)
            return (*path, "kind"), f"expected {listed(kinds)}, {got}"
        case "value_error":
            return path, str(detail["ctx"]["error"])
        case "missing":
            return path, f"missing, expected {_expected(field)}"
        case "literal_error":
            options = re.findall(r"'(\w+)'", detail["ctx"]["expected"])
            return path, f"expected {_expected(field)}, {_got(value, options)}"
        case _:
            return path, f"expected {_expected(field)}, got {show(value)}"


def _locate(
    location: tuple[int | str, ...],
) -> tuple[KeyPath, type[BaseModel], FieldInfo | None, Any]:
    """Return the key path of a pydantic location, its record, its field, and what is allowed there.

    Below a field of several types, a pydantic location names the type; a key path does not.
    """
    path: list[str | int] = []
    record: type[BaseModel] = Experiment
    field: FieldInfo | None = None
    annotation: Any = Experiment
    for part in location:
        types = members(annotation)
        if len(types) > 1:  # the part names one of them
            annotation = types.get(str(part))
            continue
        only = next(iter(types.values()), None)
        path.append(part)
        if only is not None and _is_record(only):
            record = only
            field = record.model_fields.get(str(part))
            annotation = field.annotation if field else None
        else:
            annotation = next(iter(get_args(only)), None) if isinstance(part, int) else None
            field = field if isinstance(part, int) else None
    types = members(annotation)
    only = next(iter(types.values()), None)
    if len(types) == 1 and only is not None and _is_record(only):
        record = only
    return tuple(path), record, field, annotation


def kinds_of(annotation: Any) -> dict[str, type[BaseModel]]:
    """Return the records with a `kind` that an annotation allows, by kind."""
    return {
        name: record
        for name, record in members(annotation).items()
        if _is_record(record) and "kind" in record.model_fields
    }


def members(annotation: Any) -> dict[str, Any]:
    """Return the types that an annotation allows, None left out, by tag, kind or name."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, UnionType):
        return {} if annotation in (None, type(None)) else {_name(annotation): annotation}
    found: dict[str, Any] = {}
    for member in get_args(annotation):
        tag = next((each.tag for each in _metadata(member) if isinstance(each, Tag)), None)
        inner = members(member)
        found |= {tag: next(iter(inner.values()))} if tag else inner
    return found


def _metadata(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()


def _name(annotation: Any) -> str:
    if _is_record(annotation) and "kind" in annotation.model_fields:
        kinds = get_args(annotation.model_fields["kind"].annotation)
        return str(kinds[0])
    return getattr(annotation, "__name__", str(annotation))


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _expected(field: FieldInfo | None) -> str:
    return (field and field.description) or "another value"


def _got(value: object, options: list[str]) -> str:
    near = closest(str(value), options)
    return f"got {show(value)}" + (f'; did you mean "{near}"?' if near else "")

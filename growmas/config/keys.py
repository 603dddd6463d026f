"""Keys of a config: what each may hold, read from the records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from growmas.config.experiment import Experiment
from growmas.config.formatting import show
from growmas.config.mistakes import members

_NAMES = {"int": "whole number", "float": "number", "str": "text", "bool": "true or false"}


@dataclass(frozen=True)
class Key:
    """One key of a config.

    Attributes:
        path: As overrides write it, such as "training.epochs".
        kind: The kinds of the mapping that have the key, such as "npz, csv" for
            "stream.source.path"; "" where the mapping has no kinds.
        type: Of its value.
        range: Its limits; "" for none.
        default: In YAML; "required" where there is none.
        meaning: What it expects.
    """

    path: str
    kind: str
    type: str
    range: str
    default: str
    meaning: str


def all_keys(prefix: str = "") -> tuple[Key, ...]:
    """Return the keys whose path begins with a prefix, in the order of the records."""
    kinds: dict[Key, list[str]] = {}
    for key in _keys(Experiment, "", ""):
        if key.path.startswith(prefix):
            kinds.setdefault(replace(key, kind=""), []).append(key.kind)
    return tuple(
        replace(key, kind=", ".join(dict.fromkeys(filter(None, found))))
        for key, found in kinds.items()
    )


def _keys(record: type[BaseModel], path: str, kind: str) -> Iterator[Key]:
    for name, field in record.model_fields.items():
        here = f"{path}.{name}" if path else name
        if name == "kind":
            continue
        meaning = field.description or ""
        yield Key(here, kind, _type(field.annotation), _range(field), _default(field), meaning)
        kinds = [tag for tag, each in members(field.annotation).items() if _has_kind(each)]
        if kinds:
            text = f"the kind of {here}"
            yield Key(f"{here}.kind", kind, " | ".join(kinds), "", "required", text)
        for tag, member in members(field.annotation).items():
            inner = _record(member)
            if inner is not None:
                own = tag if "kind" in inner.model_fields else ""
                yield from _keys(inner, here, own or kind)


def _record(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _has_kind(annotation: Any) -> bool:
    record = _record(annotation)
    return record is not None and "kind" in record.model_fields


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type(get_args(annotation)[0])
    if origin is Literal:
        return " | ".join(map(str, get_args(annotation)))
    if origin in (Union, UnionType):
        names = [_type(member) for member in get_args(annotation) if member is not type(None)]
        end = ["null"] if type(None) in get_args(annotation) else []
        return " | ".join(dict.fromkeys([*names, *end]))
    if origin is tuple:
        return f"list of {_type(get_args(annotation)[0])}"
    if origin is dict or _record(annotation) is not None:
        return "mapping"
    return _NAMES.get(getattr(annotation, "__name__", ""), "anything")


def _range(field: FieldInfo) -> str:
    limits = []
    for each in field.metadata:
        for kind, sign in ((Ge, "≥"), (Gt, ">"), (Le, "≤"), (Lt, "<")):
            if isinstance(each, kind):
                bound = getattr(each, kind.__name__.lower())
                limits.append(f"{sign} {'2^63' if bound == 2**63 else bound}")
    return ", ".join(limits)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return show(value)

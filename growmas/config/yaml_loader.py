"""The YAML loader and dumper for config files.

They are PyYAML's safe ones with three differences: 1e-3 is a number, as in YAML 1.2; a date is
text; and aliases are refused, so that every value is written where it is used.
"""

import re

import yaml

_FLOAT = "tag:yaml.org,2002:float"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_EXPONENT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


class Loader(yaml.SafeLoader):
    """Reads YAML into nodes and values."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own class attribute)
        first: [resolver for resolver in resolvers if resolver[0] != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node; refuse aliases."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            problem = "an alias (*name) is not supported: write the value out"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        return super().compose_node(parent, index)


class Dumper(yaml.SafeDumper):
    """Writes YAML that :class:`Loader` reads back unchanged."""


for _class in (Loader, Dumper):
    _class.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


def fault(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """Return the line of a syntax error in ``text``, from 1, and its description."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        parts = [part for part in (error.context, error.problem) if part]
        return error.problem_mark.line + 1, ", ".join(parts)
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1, f"{error.reason} (#x{error.character:04x})"
    return 1, str(error)

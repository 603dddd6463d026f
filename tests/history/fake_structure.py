"""A structure without a network, for the tracker: groups of ids and a chain of layers."""

from array import array
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise


@dataclass(frozen=True)
class FakeGroup:
    name: str
    unit_ids: tuple[int, ...]
    births: tuple[int, ...]
    kind: str = "neurons"

    @property
    def width(self) -> int:
        return len(self.unit_ids)

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.name,)


@dataclass(frozen=True)
class FakeLayer:
    name: str
    kind: str
    group: str | None
    in_width: int | None
    out_width: int | None
    parameters: int
    flops: int | None = None


@dataclass(frozen=True)
class FakeOperation:
    name: str
    kind: str
    width: int | None


@dataclass(frozen=True)
class FakeArchitecture:
    layers: tuple[FakeLayer, ...]
    operations: tuple[FakeOperation, ...]
    edges: tuple[tuple[str, str], ...]
    parameters: int
    flops: int | None


@dataclass(frozen=True)
class FakeEdit:
    task: int
    reason: str
    born: dict[str, tuple[int, ...]]
    died: dict[str, tuple[int, ...]]
    parents: dict[str, dict[int, int]]
    cause: dict[str, object] = field(default_factory=dict)
    replaced_units: dict[str, dict[int, int]] = field(default_factory=dict)
    changes: dict[str, object] = field(default_factory=lambda: {"fc1.weight": ()})


@dataclass
class FakeStructure:
    """A chain of linear layers, one per group, each with a ReLU, and a head."""

    widths: dict[str, int]
    inputs: int = 8
    outputs: int = 2
    tasks: tuple[str, ...] = ()
    groups: dict[str, FakeGroup] = field(default_factory=dict)
    listeners: list[Callable[[FakeEdit], AbstractContextManager[None] | None]] = field(
        default_factory=list
    )
    begun: list[Callable[[str], None]] = field(default_factory=list)
    next_id: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, width in self.widths.items():
            self.groups[name] = FakeGroup(name, tuple(range(width)), (0,) * width)
            self.next_id[name] = width

    @property
    def task(self) -> int:
        return max(len(self.tasks) - 1, 0)

    def begin_task(self, name: str) -> None:
        self.tasks = (*self.tasks, name)
        try:
            for listener in self.begun:
                listener(name)
        except BaseException:
            self.tasks = self.tasks[:-1]
            raise

    def layers(self) -> tuple[FakeLayer, ...]:
        sizes = [self.inputs, *(group.width for group in self.groups.values()), self.outputs]
        names: list[tuple[str, str | None]] = [(name, name) for name in self.groups]
        return tuple(
            FakeLayer(name, "Linear", group, before, after, before * after + after)
            for (name, group), before, after in zip(
                [*names, ("head", None)], sizes, sizes[1:], strict=False
            )
        )

    def architecture(self, *, count_flops: bool = True) -> FakeArchitecture:
        layers = tuple(
            replace(layer, flops=2 * layer.parameters if count_flops else None)
            for layer in self.layers()
        )
        names = [name for group in self.groups for name in (group, f"relu_{group}")]
        operations = (
            FakeOperation(f"relu_{name}", "Relu", group.width)
            for name, group in self.groups.items()
        )
        parameters = sum(layer.parameters for layer in layers)
        edges = tuple(pairwise([*names, "head"]))
        flops = 2 * parameters if count_flops else None
        return FakeArchitecture(layers, tuple(operations), edges, parameters, flops)

    def consumers(self, omega: dict[str, float]) -> "dict[str, dict[str, array[float]]]":
        """Return each unit's id times its group's omega, all of it due to the next layer."""
        readers = dict(pairwise([*self.groups, "head"]))
        return {
            name: {readers[name]: array("d", [unit * scale for unit in self.groups[name].unit_ids])}
            for name, scale in omega.items()
        }

    def subscribe(
        self,
        listener: Callable[[FakeEdit], AbstractContextManager[None] | None],
        *,
        begun: Callable[[str], None] | None = None,
    ) -> Callable[[], None]:
        self.listeners.append(listener)
        self.begun += [begun] if begun else []

        def stop() -> None:
            self.listeners.remove(listener)
            self.begun = [other for other in self.begun if other != begun]

        return stop

    def edit(
        self,
        *,
        grow: dict[str, int] | None = None,
        prune: dict[str, list[int]] | None = None,
        parents: dict[str, dict[int, int]] | None = None,
        replaced: dict[str, dict[int, int]] | None = None,
        reason: str = "test",
        cause: dict[str, object] | None = None,
    ) -> FakeEdit:
        died = {name: tuple(units) for name, units in (prune or {}).items()}
        born = {name: self._bear(name, count) for name, count in (grow or {}).items()}
        for name, group in self.groups.items():
            alive = [
                pair
                for pair in zip(group.unit_ids, group.births, strict=True)
                if pair[0] not in died.get(name, ())
            ]
            alive += [(unit, self.task) for unit in born.get(name, ())]
            self.groups[name] = FakeGroup(
                name, tuple(unit for unit, _ in alive), tuple(birth for _, birth in alive)
            )
        edit = FakeEdit(self.task, reason, born, died, parents or {}, cause or {}, replaced or {})
        with ExitStack() as open_listeners:
            for listener in self.listeners:
                open_listeners.enter_context(listener(edit) or nullcontext())
        return edit

    def _bear(self, name: str, count: int) -> tuple[int, ...]:
        first = self.next_id[name]
        self.next_id[name] = first + count
        return tuple(range(first, first + count))

"""Architecture in a history: the layers after a task, and the flow of data between them."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from growmas.history.records import LayerRecord, OperationRecord, TaskRecord

if TYPE_CHECKING:
    import networkx as nx


class ArchitectureReading:
    """Part of `TopologyHistory` that reads layers, operations and edges."""

    def _rows(self, query: str, *values: object) -> list[Any]:
        raise NotImplementedError

    def _task(self, task: str | int | None) -> TaskRecord:
        raise NotImplementedError

    def frozen(self) -> AbstractContextManager[None]:
        """Give all calls in the context the same state of the file."""
        raise NotImplementedError

    def layers(self, task: str | int | None = None) -> tuple[LayerRecord, ...]:
        """Return the layers at the end of a task (default: the last), in the structure's order."""
        rows = self._rows(
            "SELECT name, kind, group_name, in_width, out_width, parameters, flops FROM layers "
            "WHERE task = ? ORDER BY position",
            self._task(task).index,
        )
        return tuple(LayerRecord(*row) for row in rows)

    def operations(self, task: str | int | None = None) -> tuple[OperationRecord, ...]:
        """Return the operations between the layers at the end of a task (default: the last)."""
        rows = self._rows(
            "SELECT name, kind, width FROM operations WHERE task = ? ORDER BY position",
            self._task(task).index,
        )
        return tuple(OperationRecord(*row) for row in rows)

    def edges(self, task: str | int | None = None) -> tuple[tuple[str, str], ...]:
        """Return the data flow between layers and operations after a task (default: the last)."""
        index = self._task(task).index
        return tuple(self._rows("SELECT source, target FROM edges WHERE task = ?", index))

    def graph(self, task: str | int | None = None, *, operations: bool = True) -> "nx.DiGraph[str]":
        """Return a graph of layers, operations and data flow after a task (default: the last).

        `growmas.history.graphs.layer_graph` documents the attributes of nodes.

        Args:
            task: Name or index of the task.
            operations: False leaves operations out, so that edges lead from layer to layer.
        """
        from growmas.history.graphs import layer_graph  # networkx is loaded when first needed

        with self.frozen():
            index = self._task(task).index
            parts = self.layers(index), self.operations(index), self.edges(index)
        return layer_graph(*parts, with_operations=operations)

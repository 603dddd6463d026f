from collections.abc import Mapping
from typing import Any

import networkx as nx

_NAMED = tuple(map(int, nx.__version__.split(".")[:2])) >= (3, 4)


def read_node_link(data: Mapping[str, Any]) -> nx.Graph:
    """Return the graph of node-link data; networkx before 3.4 calls the key of the edges `link`."""
    return nx.node_link_graph(data, **{"edges" if _NAMED else "link": "edges"})

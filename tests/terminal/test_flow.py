from hypothesis import example, given, settings, strategies as st

from growmas.terminal.flow import MOST_LANES, draw, in_order
from growmas.terminal.symbols import ASCII, UNICODE, Symbols

Edges = list[tuple[str, str]]


@st.composite
def graphs(draw_from: st.DrawFn) -> tuple[list[str], Edges]:
    """Draw nodes, sources first, and edges."""
    nodes = [f"n{i}" for i in range(draw_from(st.integers(1, 9)))]
    pairs = [(a, b) for i, a in enumerate(nodes) for b in nodes[i + 1 :]]
    return nodes, draw_from(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []


def read_back(rows: list, signs: Symbols) -> set[tuple[str, str]]:
    """Return the edges found by following the lanes down the page."""
    leave, meet_last, meet, part_last, part = signs.joins
    lanes: dict[int, set[str]] = {}
    edges = set()
    for row in rows:
        marks = {i // 2: row.lanes[i] for i in range(0, len(row.lanes), 2)}
        for lane in [lane for lane in lanes if marks.get(lane, " ") in (" ", signs.across)]:
            del lanes[lane]
        for lane, mark in marks.items():
            if row.node is not None and mark == signs.node:
                edges |= {(source, row.node) for source in lanes.get(lane, ())}
                lanes[lane] = {row.node}
        if row.node is None and leave in marks.values() and signs.across in row.lanes:
            first = row.lanes.index(signs.across) // 2
            for lane, mark in marks.items():
                if lane > first and mark in (meet_last, meet):
                    lanes[first] = lanes[first] | lanes.pop(lane)
                if lane > first and mark in (part_last, part):
                    lanes[lane] = set(lanes[first])
        edges |= {(source, row.node) for source in row.also if row.node}
    return edges


# Lanes to the left of the third node are free when three more are opened to its right.
SLANTED = (
    [f"n{i}" for i in range(8)],
    [("n0", f"n{i}") for i in range(1, 8)]
    + [(a, b) for a in ("n1", "n3") for b in ("n4", "n5", "n6")]
    + [("n1", "n2")],
)


@settings(max_examples=200, deadline=None)
@given(graphs())
@example(SLANTED)
def test_whoever_follows_the_lanes_finds_every_edge_and_no_other(
    graph: tuple[list[str], Edges],
) -> None:
    nodes, edges = graph
    rows = draw(nodes, edges, UNICODE)
    assert [row.node for row in rows if row.node] == nodes
    assert read_back(rows, UNICODE) == set(edges)
    assert max((len(row.lanes) for row in rows), default=0) < 2 * MOST_LANES + 2


def test_edges_without_a_lane_are_said_in_words() -> None:
    leaves = [f"n{i}" for i in range(15)]
    rows = draw(["root", *leaves], [("root", leaf) for leaf in leaves], ASCII)
    said = [row.node for row in rows if row.also]
    assert said == leaves[MOST_LANES:]
    assert all(row.also == ("root",) for row in rows if row.also)


@settings(max_examples=100, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_sources_come_first_whatever_the_order_given(
    graph: tuple[list[str], Edges], random
) -> None:
    nodes, edges = graph
    given_order = random.sample(nodes, len(nodes))
    order = in_order(given_order, edges)
    assert sorted(order) == sorted(nodes)
    assert all(order.index(source) < order.index(target) for source, target in edges)


def test_a_cycle_is_broken_where_the_order_given_begins() -> None:
    assert in_order(["a", "b"], [("a", "b"), ("b", "a")]) == ["a", "b"]

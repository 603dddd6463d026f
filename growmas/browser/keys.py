"""Keys of the browser, and the actions they stand for."""

from textual.binding import Binding, BindingType

KEYS: list[BindingType] = [
    Binding("left,h", "step(-1)", "Task", show=False),
    Binding("right,l", "step(1)", "Task", show=False),
    Binding("up,k", "row(-1)", "Group", show=False),
    Binding("down,j", "row(1)", "Group", show=False),
    Binding("home", "ends(0)", "First", show=False),
    Binding("end", "ends(1)", "Last", show=False),
    Binding("question_mark", "help", "Help"),
    Binding("m", "measure(1)", "Measure"),
    Binding("M", "measure(-1)", "Measure", show=False),
    Binding("t", "training", "Training"),
    Binding("space", "play", "Play", show=False),
    Binding("comma", "unit(-1)", "Unit", show=False),
    Binding("full_stop", "unit(1)", "Unit", show=False),
    Binding("d", "mark", "Diff"),
    Binding("slash", "filter", "Filter"),
    Binding("s", "sort", "Sort"),
    Binding("r", "run", "Run"),
    Binding("e", "export", "Export"),
    Binding("escape", "leave", "Back", show=False),
    Binding("q", "quit", "Quit"),
]
"""The footer shows those that fit into 80 columns; the help has all."""

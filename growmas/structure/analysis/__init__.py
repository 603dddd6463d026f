"""Find the units of a network, from the graph that one forward pass leaves behind."""

"""Units of a network, the plans that name them, and the edits that re-index them."""

"""Layer types: which axis of which tensor carries their channels."""

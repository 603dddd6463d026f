"""Ways for fresh units to start."""

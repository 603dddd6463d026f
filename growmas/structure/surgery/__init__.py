"""Carry a plan out, verify it, or undo it."""

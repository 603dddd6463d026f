"""Policies that a study found no gain for; kept for comparison."""

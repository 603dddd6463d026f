"""The command line: thin, and quick to start, since commands that only read never import torch."""

from growmas.cli.program import main

__all__ = ["main"]

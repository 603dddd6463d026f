import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "terminal"), str(TESTS / "history")]  # for histories without a network

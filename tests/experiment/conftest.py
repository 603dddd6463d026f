"""The folder of tests is where `own_code` is found."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

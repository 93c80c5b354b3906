"""Data sets in their own formats, by the writers that the readers are tested with."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "data"))

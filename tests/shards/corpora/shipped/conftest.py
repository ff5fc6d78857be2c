"""The helpers of the table reader's tests are found by their plain names here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "table"))

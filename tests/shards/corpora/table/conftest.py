"""Helpers of this folder's tests are found by their plain names."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

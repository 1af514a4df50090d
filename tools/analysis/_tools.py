"""Import path that lets the scripts of this folder import those of tools/ and tools/data/."""

import sys
from pathlib import Path

TOOLS = Path(__file__).parents[1]
sys.path[:0] = [str(TOOLS), str(TOOLS / 'data')]

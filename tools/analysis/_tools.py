"""Lets the tools of this folder import those of the others."""

import sys
from pathlib import Path

TOOLS = Path(__file__).parents[1]
sys.path[:0] = [str(TOOLS), str(TOOLS / 'data')]

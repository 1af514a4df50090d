"""Paths of the repository and of often used configs."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
FLAGSHIP = str(CONFIGS / 'blvnet_tam_r50_8x2_sthv2.py')
MOTION = str(CONFIGS / 'blvnet_tam_r50_4x2_motion.py')

"""MMAction2's training tool, where ``mim train mmblvnet CONFIG`` looks for it."""

import runpy
from pathlib import Path

import mmaction

if __name__ == '__main__':
    tool = Path(mmaction.__file__).parent / '.mim/tools/train.py'
    runpy.run_path(str(tool), run_name='__main__')

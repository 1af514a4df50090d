"""MMAction2's test tool, where ``mim test mmblvnet CONFIG`` looks for it."""

import runpy
from pathlib import Path

import mmaction

if __name__ == '__main__':
    tool = Path(mmaction.__file__).parent / '.mim/tools/test.py'
    runpy.run_path(str(tool), run_name='__main__')

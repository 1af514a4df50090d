"""MMAction2's training tool, where ``mim train mmblvnet CONFIG`` looks for it."""

import runpy

import mmaction

if __name__ == '__main__':
    runpy.run_path(f'{mmaction.__path__[0]}/.mim/tools/train.py', run_name='__main__')

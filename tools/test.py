"""MMAction2's test tool, where ``mim test mmblvnet CONFIG`` looks for it."""

import runpy

import mmaction

if __name__ == '__main__':
    runpy.run_path(f'{mmaction.__path__[0]}/.mim/tools/test.py', run_name='__main__')

"""The commands and code blocks in the README and in docs."""

import re
from pathlib import Path
from typing import List

from paths import ROOT

DOCUMENTS = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]
PROGRAMS = ('awk', 'bash', 'mim', 'pip', 'pytest', 'python')


def code_blocks(document: Path, language: str) -> List[str]:
    """Return the code blocks of a language."""
    return re.findall(rf'```{language}\n(.*?)```', document.read_text(), re.DOTALL)


def scripts(document: Path) -> List[List[str]]:
    """Return the commands of each bash block, without comments and with continued lines joined."""
    blocks = []
    for block in code_blocks(document, 'bash'):
        lines = re.sub(r' *\\\n *', ' ', block).splitlines()
        lines = [re.sub(r'(^|\s+)#\s.*', '', line).strip() for line in lines]
        blocks.append([line for line in lines if line])
    return blocks


def block_commands(document: Path) -> List[str]:
    """Return the commands of all bash blocks of a document, one line each."""
    return [line for script in scripts(document) for line in script]


def inline_commands(document: Path) -> List[str]:
    """Return the commands in inline code of a document."""
    text = re.sub(r'```.*?```', '', document.read_text(), flags=re.DOTALL)
    spans = [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', text)]
    return [span for span in spans if span.split()[0] in PROGRAMS and len(span.split()) > 1]

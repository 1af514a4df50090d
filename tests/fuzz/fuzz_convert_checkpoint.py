"""Coverage-guided fuzzing of the converter's key handling.

Needs atheris, which is not among the requirements of the package:

    pip install atheris
    python tests/fuzz/fuzz_convert_checkpoint.py -max_total_time=600

Hypothesis derives changes to the names of published weights from the bytes of
a case. Every case has to be converted or be refused with a ValueError; any
other exception ends the run and leaves the case in a file.
"""

import sys
from pathlib import Path

import atheris
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ('', 'conversion')]

# Only the modules under test, since instrumented code is slow.
with atheris.instrument_imports(include=['mmblvnet.conversion.published', 'mmblvnet.checkpoints.validation']):
    import test_published

if __name__ == '__main__':
    torch.set_num_threads(1)
    test = test_published.test_any_published_keys_are_converted_or_refused
    atheris.Setup(sys.argv, test.hypothesis.fuzz_one_input)
    atheris.Fuzz()

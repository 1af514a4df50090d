"""Coverage-guided fuzzing of the converter's key handling.

Needs atheris, which the package does not:

    pip install atheris
    python tests/fuzz/fuzz_convert_checkpoint.py -max_total_time=600

The bytes of a case tell Hypothesis how the names of published weights are
changed. Every case has to be converted or be refused with a ValueError;
whatever else is raised ends the run and leaves the case in a file.
"""

import sys
from pathlib import Path

import atheris
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ('', 'conversion')]

# Only what is under test is watched; the rest is slow to watch.
with atheris.instrument_imports(include=['mmblvnet.conversion.published', 'mmblvnet.checkpoints.validation']):
    import test_published

if __name__ == '__main__':
    torch.set_num_threads(1)
    test = test_published.test_any_published_keys_are_converted_or_refused
    atheris.Setup(sys.argv, test.hypothesis.fuzz_one_input)
    atheris.Fuzz()

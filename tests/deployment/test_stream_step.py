import subprocess
import sys

import numpy as np
import pytest
import torch
from documents import code_blocks
from mmaction.registry import MODELS
from mmblvnet.deployment.exportable import ExportableStream, check_stream_parity
from mmblvnet.deployment.formats import export_onnx, export_openvino
from networks import SMALL_CHANNELS, SmallBLVNet, recognizer
from onnxruntime import InferenceSession
from packaging.version import Version
from paths import ROOT

SHAPE = (3, 32, 32)
PAIRS = dict(type='TinyBLVNet', depth=50, num_segments=4)
FAMILIES = {
    'tam': PAIRS,
    'causal': dict(PAIRS, causal=True),
    'tsm': dict(PAIRS, temporal_module='TSM'),
    'resnet': dict(
        type='ResNetTAM', depth=18, num_segments=4, num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,)
    ),
}


@MODELS.register_module(force=True)
class TinyBLVNet(SmallBLVNet):
    """BLVNet with a single block in layer4."""

    arch_settings = {50: (1, 2, 2, 1)}


def make_model(family):
    torch.manual_seed(0)
    channels = 64 if family == 'resnet' else SMALL_CHANNELS
    head = dict(type='TSMHead', in_channels=channels, num_segments=4)
    model = recognizer(FAMILIES[family], head).eval()
    # Brings the scores to about 1, as in a trained model.
    model.cls_head.fc_cls.weight.data.div_(100)
    return model


def export(family, path, with_preprocessing=True):
    step = ExportableStream(make_model(family), (2, *SHAPE), with_preprocessing)
    export_onnx(step, step.examples(), {}, path, step.describe())
    return step


@pytest.fixture(scope='module')
def tam(tmp_path_factory):
    path = tmp_path_factory.mktemp('stream') / 'stream.onnx'
    return export('tam', path), path


def test_a_step_agrees_with_the_model_over_a_video(tam):
    step, path = tam
    assert check_stream_parity(path, make_model('tam'), step) < 1e-4
    with pytest.raises(ValueError, match='does not agree'):
        check_stream_parity(path, make_model('causal'), step)


def test_states_have_at_most_four_dimensions(tam):
    _, path = tam
    session = InferenceSession(path, providers=['CPUExecutionProvider'])
    states = [i.shape for i in session.get_inputs() if i.name.startswith('state.')]
    # One state per TAM.
    assert [len(shape) for shape in states] == [4] * 5
    assert [o.shape for o in session.get_outputs()[1:]] == states
    names = [i.name for i in session.get_inputs() if i.name.startswith('state.')]
    assert [o.name for o in session.get_outputs()] == ['scores', *(f'next.{name}' for name in names)]


@pytest.mark.slow
@pytest.mark.parametrize('family', ['causal', 'tsm', 'resnet'])
def test_every_family_agrees_with_its_model(family, tmp_path):
    path = tmp_path / 'stream.onnx'
    step = export(family, path, with_preprocessing=False)
    assert check_stream_parity(path, make_model(family), step) < 1e-4


@pytest.mark.skipif(
    Version(torch.__version__) < Version('2.7'), reason='its ONNX files have functions that OpenVINO does not know'
)
def test_openvino_computes_the_same_steps(tam, tmp_path):
    openvino = pytest.importorskip('openvino')
    _, path = tam
    export_openvino(path, tmp_path / 'stream.xml')
    network = openvino.Core().compile_model(tmp_path / 'stream.xml', 'CPU', dict(INFERENCE_PRECISION_HINT='f32'))
    session = InferenceSession(path, providers=['CPUExecutionProvider'])
    states = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name.startswith('state.')}
    others = dict(states)
    for pair in range(10):
        given = dict(
            frames=np.random.default_rng(pair).integers(0, 256, (2, *SHAPE), np.uint8),
            pair=np.array([pair]),
            num_frames=np.array([16]),
        )
        expected = session.run(None, dict(given, **states))
        actual = list(network(dict(given, **others)).values())
        np.testing.assert_allclose(actual[0], expected[0], atol=1e-3)
        states = dict(zip(states, expected[1:]))
        others = dict(zip(others, actual[1:]))


def test_the_documented_program_needs_no_pytorch(tam, tmp_path):
    _, path = tam
    (program,) = code_blocks(ROOT / 'docs' / 'streaming.md', 'python')
    assert len(program.splitlines()) <= 30
    write_video(tmp_path / 'video.mp4')
    (tmp_path / 'stream.onnx').write_bytes(path.read_bytes())
    block = 'import sys; sys.modules["torch"] = None\n'
    done = subprocess.run([sys.executable, '-c', block + program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # 24 frames are 12 pairs, one line each.
    assert len(done.stdout.splitlines()) == 12


def write_video(path):
    import av

    with av.open(str(path), 'w') as out:
        stream = out.add_stream('mpeg4', rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for number in range(24):
            picture = np.full((48, 64, 3), 10 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        out.mux(stream.encode())

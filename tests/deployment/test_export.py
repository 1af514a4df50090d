"""Exported files give the scores of the model."""

import subprocess
import sys

import onnx
import pytest
import torch
from families import FAMILIES, build, frames_of
from mmblvnet.deployment.exportable import (
    TOLERANCE,
    ExportableRecognizer,
    check_parity,
    example_frames,
    reference_scores,
)
from mmblvnet.deployment.formats import export_onnx, export_openvino, export_torch, load_exported, quantize


def exportable(model, with_preprocessing=True):
    return ExportableRecognizer(model, frames_of(model), with_preprocessing)


def export(module, path, write=export_onnx, **kwargs):
    write(module, module.examples(), module.dynamic_axes, path, **kwargs)
    return load_exported(path)


def agrees(exported, model, module):
    scores = reference_scores(model, example_frames(module.shape, 3, 1))
    # Scores must differ across videos for the comparison to mean much.
    assert scores.std(0).max() > 3 * TOLERANCE
    check_parity(exported.run, model, module)


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES)
def test_an_onnx_file_agrees_with_the_model(family, tmp_path):
    model = build(family)
    module = exportable(model)
    agrees(export(module, tmp_path / 'model.onnx'), model, module)
    operators = {node.op_type for node in onnx.load(tmp_path / 'model.onnx').graph.node}
    assert not operators & {'If', 'Loop', 'Scan', 'ScatterND', 'ScatterElements', 'BatchNormalization'}


@pytest.mark.slow
def test_a_torch_program_agrees_with_the_model(tmp_path):
    model = build(average_clips=None)
    about, module = dict(layout='NTCHW'), exportable(model)
    exported = export(module, tmp_path / 'model.pt2', export_torch, metadata=about)
    agrees(exported, model, module)
    assert exported.metadata == about


@pytest.mark.slow
def test_a_file_without_preprocessing_takes_normalised_frames(tmp_path):
    model = build()
    module = exportable(model, with_preprocessing=False)
    agrees(export(module, tmp_path / 'model.onnx'), model, module)


@pytest.mark.slow
def test_openvino_files_agree_with_the_model(tmp_path):
    torch.manual_seed(0)
    model = build()
    module = exportable(model)
    export(module, tmp_path / 'model.onnx')
    frames = example_frames(module.shape, 8, 1)
    expected = reference_scores(model, frames)
    with torch.autocast('cpu', torch.bfloat16):
        rounding = (reference_scores(model, frames) - expected).abs().mean()
    for precision, tolerance in dict(float32=TOLERANCE, bfloat16=3 * rounding).items():
        export_openvino(tmp_path / 'model.onnx', tmp_path / f'{precision}.xml', precision)
        run = load_exported(tmp_path / f'{precision}.xml').run
        assert (run(frames) - expected).abs().mean() < tolerance
        check_parity(run, model, module, precision)
    with pytest.raises(ValueError, match='scores differ'):
        check_parity(lambda frames: run(frames) + 2, model, module, 'bfloat16')


@pytest.mark.slow
def test_an_int8_openvino_file_takes_several_videos(tmp_path):
    module = exportable(build())
    export(module, tmp_path / 'model.onnx')
    videos = example_frames(module.shape, 3, 1).split(1)
    quantize(tmp_path / 'model.onnx', tmp_path / 'int8.onnx', videos)
    export_openvino(tmp_path / 'int8.onnx', tmp_path / 'int8.xml')
    run = load_exported(tmp_path / 'int8.xml').run
    torch.testing.assert_close(run(torch.cat(videos)), torch.cat([run(video) for video in videos]), atol=1e-3, rtol=0)


@pytest.fixture
def doubling(tmp_path):
    """Return an ONNX file that doubles its input and carries class names as metadata."""
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node('Add', ['frames', 'frames'], ['scores'])],
        'doubling',
        [onnx.helper.make_tensor_value_info('frames', kind, ['batch', 3])],
        [onnx.helper.make_tensor_value_info('scores', kind, ['batch', 3])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 18)], ir_version=8)
    onnx.helper.set_model_props(model, dict(class_names='["a", "\u00e4"]'))
    onnx.save(model, tmp_path / 'doubling.onnx')
    return tmp_path / 'doubling.onnx'


def test_an_openvino_file_keeps_the_metadata_and_states_its_precision(doubling):
    for precision, hint in dict(float32='f32', bfloat16='bf16').items():
        export_openvino(doubling, doubling.with_suffix('.xml'), precision)
        run, about = load_exported(doubling.with_suffix('.xml'))
        assert run(torch.ones(2, 3)).tolist() == [[2.0] * 3] * 2
        assert about == dict(class_names='["a", "\u00e4"]', precision=hint)


def test_a_child_may_end_after_openvino_files_are_closed(doubling):
    # With two OpenVINO cores the signal stack was freed, and SIGCHLD crashed.
    program = f"""
import os, signal
from mmblvnet.deployment.formats import export_openvino, load_exported
export_openvino({str(doubling)!r}, {str(doubling.with_suffix('.xml'))!r})
first, second = [load_exported({str(doubling.with_suffix('.xml'))!r}) for _ in range(2)]
del first
del second
signal.signal(signal.SIGCHLD, lambda *_: None)
if not os.fork():
    os._exit(0)
os.wait()
"""
    subprocess.run([sys.executable, '-c', program], check=True)


def test_where_openvino_is_missing_the_remedy_is_named(doubling, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    with pytest.raises(ImportError, match=r'pip install .*\[deployment\]'):
        export_openvino(doubling, doubling.with_suffix('.xml'))


def test_a_file_that_does_not_agree_is_refused():
    model = build()

    def run(frames):
        return reference_scores(model, frames) + 1e-3

    with pytest.raises(ValueError, match='does not agree with the model'):
        check_parity(run, model, exportable(model))


def test_a_file_that_cannot_be_run_is_named(tmp_path):
    for name in ('model.onnx', 'model.xml', 'model.pt2'):
        with pytest.raises(FileNotFoundError, match=name):
            load_exported(tmp_path / name)
    (tmp_path / 'model.bin').touch()
    with pytest.raises(ValueError, match='.onnx, .xml, .pt2'):
        load_exported(tmp_path / 'model.bin')


def test_an_exported_model_computes_the_scores_of_a_test():
    model = build('bLVNet-TAM, r = 5, flow')
    frames = example_frames(frames_of(model), 2, 2)
    for average_clips in ('prob', 'score', None):
        model.cls_head.average_clips = average_clips
        module = exportable(model)
        with torch.no_grad():
            scores = module(frames)
        torch.testing.assert_close(scores, reference_scores(model, frames), atol=1e-4, rtol=1e-4)


def test_the_mean_is_described_where_the_file_does_not_subtract_it():
    for included in (True, False):
        about = exportable(build(), included).describe()
        assert about['output'] == 'probabilities'
        assert about['activation'] == 'softmax'
        assert about['frames_per_view'] == '4'
        assert ('mean' in about) is not included

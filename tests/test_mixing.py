"""The configs of docs/mixing.md do what the document says."""

import pytest
import torch
import torch.nn.functional as F
from mixtures import DOCUMENTED, batch, check_network, read, scores
from mmaction.registry import DATASETS, MODELS
from mmaction.structures import ActionDataSample
from mmblvnet.checkpoints.safe_loading import load_safely
from mmengine.fileio import load
from mmengine.runner import Runner
from tiny_videos import shown_numbers, write_video
from torch.utils.data import Dataset

# Frames per clip, and rows per clip that reach the head.
NETWORKS = {
    'BLVNet in a config of TSM': (8, 8),
    'TSNHead': (16, 16),
    'TSMHead': (16, 16),
    'TRNHead': (16, 8),
    'TPN and TPNHead': (8, 1),
    'ResNet': (8, 8),
    'MobileNetV2': (8, 8),
    'ResNet3dSlowOnly and I3DHead': (8, 1),
    'BigLittleSampleFrames for TSM': (16, 16),
}
# Configs that inherit their network.
INHERITED = [
    'SampleFrames for BLVNet',
    'UniformSample for BLVNet',
    'Mixup and Cutmix',
    'Averaged weights',
    'Rare classes',
    'Class-balanced focal loss',
    'Several labels per video',
    'Label smoothing',
    'Early stopping',
    'Sharded training',
]
ROWS = {**NETWORKS, **dict.fromkeys(INHERITED, (16, 8))}


def test_every_config_of_the_document_is_tested():
    assert set(DOCUMENTED) == {*ROWS, 'timm', 'torchvision'}


@pytest.mark.parametrize('name', [*NETWORKS, *[pytest.param(name, marks=pytest.mark.slow) for name in INHERITED]])
def test_each_network_trains_a_step_and_tests(name, tmp_path):
    check_network(read(name, tmp_path), *ROWS[name])


@pytest.mark.parametrize(
    'name',
    [
        'BLVNet in a config of TSM',
        'SampleFrames for BLVNet',
        'UniformSample for BLVNet',
        'BigLittleSampleFrames for TSM',
    ],
)
def test_each_clip_is_the_whole_video_in_order(name, tmp_path):
    cfg = read(name, tmp_path)
    write_video(tmp_path / 'tiny.webm')
    annotations = tmp_path / 'list.txt'
    annotations.write_text('tiny.webm 1\n')
    num_frames, _ = ROWS[name]
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.update(ann_file=str(annotations), data_prefix=dict(video=str(tmp_path)))
        frames = DATASETS.build(dataset)[0]['inputs']
        for clip in frames.split(num_frames):
            numbers = shown_numbers(clip)
            assert numbers == sorted(numbers)
            assert numbers[0] < 4 and numbers[-1] > 13


def loss(name, tmp_path, scores, labels):
    """Return the loss of the head of a mixture for these scores and labels."""
    head = MODELS.build(read(name, tmp_path).model.cls_head)
    samples = [ActionDataSample().set_gt_label(label) for label in labels]
    return head.loss_by_feat(scores, samples)['loss_cls']


def test_label_smoothing_is_that_of_pytorch(tmp_path):
    scores, labels = torch.randn(3, 174), [5, 0, 173]
    torch.testing.assert_close(
        loss('Label smoothing', tmp_path, scores, labels),
        F.cross_entropy(scores, torch.tensor(labels), label_smoothing=0.1),
    )


@pytest.mark.parametrize(
    'name, ratio', [('Rare classes', 400 / 20), ('Class-balanced focal loss', (1 - 0.9999**400) / (1 - 0.9999**20))]
)
def test_an_error_costs_more_the_rarer_its_class(name, ratio, tmp_path):
    # Equal scores, so that only the class weights matter.
    scores = torch.zeros(2, 3, requires_grad=True)
    loss(name, tmp_path, scores, [0, 2]).backward()
    frequent, rare = scores.grad[0, 0], scores.grad[1, 2]
    assert (rare / frequent).item() == pytest.approx(ratio, rel=1e-4)


def test_labels_mix_as_the_pictures_do(tmp_path):
    cfg = read('Mixup and Cutmix', tmp_path)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    black = torch.zeros(16, 3, 32, 32).byte()
    amounts = set()
    for _ in range(20):
        samples = [ActionDataSample().set_gt_label(i) for i in range(2)]
        data = preprocessor(dict(inputs=[black, black + 255], data_samples=samples), training=True)
        videos = (data['inputs'] * preprocessor.std + preprocessor.mean) / 255
        for video, sample in zip(videos, data['data_samples']):
            white = sample.gt_label[1].item()
            assert video.mean().item() == pytest.approx(white, abs=1e-4)
            assert sample.gt_label.sum().item() == pytest.approx(1)
            assert torch.equal(video, video[:1].expand_as(video))
            amounts.add(round(white, 4))
    assert len(amounts - {0.0, 1.0}) > 5


@DATASETS.register_module(force=True)
class NoiseVideos(Dataset):
    """A data set of noise clips of 16 frames."""

    def __init__(self, num_videos):
        self.videos = batch(num_videos, 16)

    def __len__(self):
        return len(self.videos['inputs'])

    def __getitem__(self, index):
        return {key: values[index] for key, values in self.videos.items()}


def run(cfg, folder, num_videos):
    """Return a runner with noise videos in batches of two."""
    for split in ('train', 'val', 'test'):
        dataloader = cfg[f'{split}_dataloader']
        dataloader.update(batch_size=2, num_workers=0, persistent_workers=False)
        dataloader.dataset = dict(type='NoiseVideos', num_videos=num_videos)
    cfg.update(work_dir=str(folder), experiment_name=str(num_videos))
    return Runner.from_cfg(cfg)


@pytest.mark.slow
def test_the_averaged_weights_are_saved_and_tested(tmp_path):
    cfg = read('Averaged weights', tmp_path)
    # So that the average differs from the weights after two steps.
    cfg.custom_hooks[-1].momentum = 0.5
    cfg.train_cfg.max_epochs = 1
    cfg.model.cls_head.init_std = 1.0
    runner = run(cfg, tmp_path, num_videos=4)
    runner.train()
    checkpoint = load_safely(tmp_path / 'epoch_1.pth')
    averaged = checkpoint['state_dict']
    name = 'cls_head.fc_cls.weight'
    trained = runner.model.state_dict()[name]
    torch.testing.assert_close(checkpoint['ema_state_dict'][f'module.{name}'], trained)
    assert not torch.equal(averaged[name], trained)

    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(averaged)
    cfg.load_from = str(tmp_path / 'epoch_1.pth')
    cfg.test_evaluator = [cfg.test_evaluator, dict(type='DumpResults', out_file_path=str(tmp_path / 'dump.pkl'))]
    runner = run(cfg, tmp_path, num_videos=2)
    runner.test()
    expected = scores(model, runner.test_dataloader.dataset.videos)
    dumped = [r['pred_score'] for r in load(tmp_path / 'dump.pkl')]
    torch.testing.assert_close(torch.stack(dumped), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_training_stops_early(tmp_path):
    cfg = read('Early stopping', tmp_path)
    assert cfg.custom_hooks[-1].patience == 5
    cfg.custom_hooks[-1].patience = 2
    # So that the accuracy does not change.
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.default_hooks.checkpoint = None
    runner = run(cfg, tmp_path, num_videos=2)
    runner.train()
    assert (runner.epoch, runner.max_epochs) == (3, 50)

    cfg.train_dataloader.dataset.type = 'DataThatIsNotThere'
    cfg.experiment_name = 'test'
    assert 'acc/top1' in Runner.from_cfg(cfg).test()

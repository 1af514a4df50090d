import logging
import re
from types import SimpleNamespace

import pytest
import torch
from mmaction.registry import MODELS
from mmblvnet.engine.hooks import TestViewsHook


def messages(caplog, frames_of_batches, num_frames, average='score'):
    runner = SimpleNamespace(
        logger=logging.getLogger('views'),
        model=SimpleNamespace(
            backbone=SimpleNamespace(num_segments=num_frames), cls_head=SimpleNamespace(average_clips=average)
        ),
    )
    hook = TestViewsHook()
    with caplog.at_level(logging.INFO):
        hook.before_test_epoch(runner)
        for i, frames in enumerate(frames_of_batches):
            inputs = [torch.zeros(n, 3, 2, 2) for n in frames]
            hook.after_test_iter(runner, i, dict(inputs=inputs))
        hook.after_test_epoch(runner, {})
    return caplog.messages


@pytest.mark.parametrize(
    'frames, num_frames, average, expected',
    [
        ([[48, 48], [48]], 8, 'score', ['Views per video: 6, each of 8 frames, .* before the softmax']),
        ([[16]], 8, 'prob', ['video: 2, .* after the softmax']),
        ([[8], [24]], 8, None, ['video: 1,.*not averaged', 'video: 3,']),
        ([[25]], None, 'score', ['Frames per video: 25,']),
    ],
)
def test_the_number_of_views_and_their_average_are_logged_once(caplog, frames, num_frames, average, expected):
    logged = messages(caplog, frames, num_frames, average)
    for message, words in zip(logged, expected, strict=True):
        assert re.search(words, message)


def test_videos_of_a_batch_get_equally_many_views():
    few, many = torch.randn(2 * 8, 3, 2, 2), torch.randn(3 * 8, 3, 2, 2)
    batch = dict(inputs=[few, many])
    TestViewsHook().before_test_iter(None, 0, batch)
    assert torch.equal(batch['inputs'][0], torch.cat([few] * 3))
    assert torch.equal(batch['inputs'][1], torch.cat([many] * 2))


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_multi_label_views_are_averaged_after_the_sigmoid(mode):
    model = SimpleNamespace(
        cls_head=MODELS.build(
            dict(
                type='TSNHead',
                num_classes=4,
                in_channels=8,
                loss_cls=dict(type='BCELossWithLogits'),
                average_clips='prob',
            )
        )
    )
    hook = TestViewsHook()
    getattr(hook, f'before_{mode}_epoch')(SimpleNamespace(model=model))
    scores = torch.randn(3, 4)
    torch.testing.assert_close(model.cls_head.average_clip(scores, 3)[0], scores.sigmoid().mean(0))

"""Predict what happens in a video, through MMAction2's inference API."""
import argparse
import sys
from pathlib import Path
from typing import List, Optional, Tuple

import torch
from mmaction.apis import inference_recognizer, init_recognizer


def predict(video: str,
            config: str,
            checkpoint: str,
            label_map: Optional[str] = None,
            topk: int = 5) -> List[Tuple[str, float]]:
    """The most probable classes of a video.

    Args:
        video (str): A video file.
        config (str): The model's config.
        checkpoint (str): The model's checkpoint.
        label_map (str, optional): A file with the name of a class per line.
            Defaults to None, which gives the classes' numbers.
        topk (int): How many classes. Defaults to 5.

    Returns:
        list[tuple]: Names and scores, the highest first.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the label map does not fit the model.
    """
    for file in filter(None, (video, config, checkpoint, label_map)):
        if not Path(file).is_file():
            raise FileNotFoundError(f'{file} does not exist')
    device = 'cuda:0' if torch.cuda.is_available() else 'cpu'
    model = init_recognizer(config, checkpoint, device=device)
    scores = inference_recognizer(model, video).pred_score
    best = scores.topk(min(topk, len(scores)))
    names = range(len(scores))
    if label_map:
        names = Path(label_map).read_text().splitlines()
    if len(names) != len(scores):
        raise ValueError(f'{label_map} names {len(names)} classes, but the '
                         f'model has {len(scores)}')
    return [(str(names[i]), score)
            for i, score in zip(best.indices.tolist(), best.values.tolist())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('video')
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument(
        '--label-map', help='a file with the name of a class per line')
    parser.add_argument('--topk', type=int, default=5)
    args = parser.parse_args()
    try:
        predictions = predict(**vars(args))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    for name, score in predictions:
        print(f'{score:8.3f}  {name}')


if __name__ == '__main__':
    main()

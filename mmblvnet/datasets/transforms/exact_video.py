from pathlib import Path

from mmaction.registry import TRANSFORMS
from mmcv.transforms import BaseTransform
from mmengine.fileio import FileClient

from ..video_reader import VideoReader


@TRANSFORMS.register_module()
class ExactVideoInit(BaseTransform):
    """Open a video with PyAV, and count the frames that it shows.

    Required Keys:

    - filename (str, Path, bytes or file object)

    Added Keys:

    - video_reader (VideoReader), total_frames, avg_fps

    Args:
        io_backend (str): MMEngine's name of the file backend that reads the
            videos. Defaults to ``'disk'``.
        kwargs: Arguments of the backend.

    Raises:
        UnreadableVideoError: If the file is not a complete video.
        OSError: If reading fails for a reason other than its content.
    """

    def __init__(self, io_backend: str = 'disk', **kwargs) -> None:
        self.io_backend = io_backend
        self.kwargs = kwargs
        self.file_client = None

    def transform(self, results: dict) -> dict:
        """Add a reader of the video, as ``PyAVInit.transform`` does."""
        file = results['filename']
        if isinstance(file, (str, Path)) and self.io_backend not in ('disk', 'local'):
            if self.file_client is None:
                self.file_client = FileClient(self.io_backend, **self.kwargs)
            content = self.file_client.get(file)
            if content is None:  # from LMDB
                raise FileNotFoundError(f'{file} does not exist')
            file = bytes(content)
        reader = VideoReader(file)
        results.update(video_reader=reader, total_frames=len(reader), avg_fps=reader.avg_fps)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(io_backend={self.io_backend!r})'


@TRANSFORMS.register_module()
class ExactVideoDecode(BaseTransform):
    """Decode the sampled frames of an opened video, upright, in RGB.

    Frame indices count the frames that the video shows, in presentation order.

    Required Keys:

    - video_reader
    - frame_inds
    - start_index (optional): The index of the first frame, 0 by default.

    Added Keys:

    - imgs, original_shape, img_shape

    Raises:
        IndexError: If a frame index is out of range.
        UnreadableVideoError: If a frame cannot be decoded.
    """

    def transform(self, results: dict) -> dict:
        """Decode the frames, as ``PyAVDecode.transform`` does, and close the video."""
        indices = results['frame_inds'].reshape(-1)
        imgs = results['video_reader'].get_batch(indices - results.get('start_index', 0))
        shape = imgs[0].shape[:2]
        results.update(imgs=imgs, original_shape=shape, img_shape=shape, video_reader=None)
        return results

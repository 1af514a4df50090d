import pytest
from tiny_videos import FOURCC, write_rawframes, write_video


@pytest.fixture(scope='session')
def videos(tmp_path_factory) -> dict:
    """Return the path of one intact video per container, and of one as a folder of JPEG files."""
    folder = tmp_path_factory.mktemp('videos')
    paths = {suffix[1:]: write_video(folder / f'whole{suffix}') for suffix in FOURCC}
    paths['rawframes'] = write_rawframes(folder / 'rawframes')
    return paths

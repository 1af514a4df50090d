import pytest
from mmblvnet.apis import find_videos, read_class_names


def test_a_folder_gives_the_videos_in_it_except_hidden_ones(tmp_path):
    for name in ('b.mp4', 'a.WEBM', '._b.mp4', '.hidden/c.mp4', 'deep/d.ts', '.DS_Store', 'notes.txt'):
        (tmp_path / 'own' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'own' / name).touch()
    (tmp_path / 'own' / 'deep' / 'loop').symlink_to(tmp_path / 'own')
    (tmp_path / 'own' / 'broken.mp4').symlink_to('nowhere.mp4')
    (tmp_path / 'linked').symlink_to(tmp_path / 'own')
    for folder in ('own', 'linked'):
        assert find_videos([str(tmp_path / folder)]) == [
            str(tmp_path / folder / name) for name in ('a.WEBM', 'b.mp4', 'deep/d.ts')
        ]


def test_cyclic_links_between_folders_are_followed_once(tmp_path):
    for name, other in (('a', 'b'), ('b', 'a')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'x.mp4').touch()
        (tmp_path / name / 'other').symlink_to(tmp_path / other)
    assert len(find_videos([str(tmp_path / 'a')])) == 2


def test_a_folder_without_videos_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='has no videos, which end in .*: add videos to it'):
        find_videos([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match='absent.mp4 does not exist'):
        find_videos([str(tmp_path / 'absent.mp4')])


def test_a_label_map_of_any_editor_is_read(tmp_path):
    file = tmp_path / 'map.txt'
    for content in ('walk\nmy run\n', '\ufeffwalk\nmy run', 'walk\r\nmy run\r\n\r\n', 'walk \nmy run\n \n'):
        file.write_bytes(content.encode())
        assert read_class_names(file, 2) == ['walk', 'my run']
    assert read_class_names(None, 2) == ['0', '1']


def test_a_label_map_that_does_not_fit_says_why(tmp_path):
    file = tmp_path / 'map.txt'
    with pytest.raises(FileNotFoundError, match='map.txt does not exist'):
        read_class_names(file, 2)
    for content, message in [
        (b'a\n\nc', 'map.txt names 3 classes.* has 2'),
        (b'\na', "line 1: '' is empty"),
        (b'a\na\n', "line 2: 'a' is empty or repeats an earlier class name"),
        (b'caf\xe9\nb\n', 'map.txt is not UTF-8 text.*iconv'),
    ]:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_class_names(file, 2)

from importlib.resources import files

import pytest

NUM_CLASSES = dict(
    sthv1=174, sthv2=174, k400=400, mit=339, jester=27, ucf101=101, hmdb51=51,
    diving48=48)


def names(data):
    label_map = files('mmblvnet.datasets') / 'label_maps' / f'{data}.txt'
    return label_map.read_text().splitlines()


@pytest.mark.parametrize('data', NUM_CLASSES)
def test_each_class_has_a_name_of_its_own(data):
    assert len(names(data)) == len(set(names(data))) == NUM_CLASSES[data]
    assert all(name == name.strip() != '' for name in names(data))


def test_both_versions_of_something_something_have_the_same_classes():
    assert sorted(names('sthv1')) == names('sthv2')


def test_kinetics_is_in_the_order_of_mmaction2s_annotations():
    # They sort names that have no spaces.
    for form in (names('k400'), [n.replace(' ', '_') for n in names('k400')]):
        assert form == sorted(form)


@pytest.mark.parametrize('data, key', [
    ('hmdb51', str), ('diving48', str), ('ucf101', str.lower)])
def test_names_are_sorted_where_the_published_ones_are(data, key):
    assert names(data) == sorted(names(data), key=key)


@pytest.mark.parametrize('data, label, name', [
    ('sthv1', 0, 'Holding something'),
    ('sthv1', 173, 'Poking a hole into some substance'),
    ('mit', 0, 'clapping'),
    ('mit', 338, 'typing'),
    ('jester', 0, 'Swiping Left'),
    ('jester', 26, 'Doing other things'),
    ('ucf101', 100, 'YoYo'),
])
def test_lists_that_are_not_sorted_begin_and_end_like_the_published_ones(
        data, label, name):
    assert names(data)[label] == name

from importlib.resources import files

NUM_CLASSES = dict(sthv1=174, sthv2=174, k400=400, mit=339, jester=27, ucf101=101, hmdb51=51, diving48=48)


def names(data):
    label_map = files('mmblvnet.datasets') / 'label_maps' / f'{data}.txt'
    return label_map.read_text().splitlines()


def test_each_class_has_a_name_of_its_own():
    for data, num_classes in NUM_CLASSES.items():
        assert len(names(data)) == len(set(names(data))) == num_classes
        assert all(name == name.strip() != '' for name in names(data))


def test_names_are_in_the_order_of_the_published_ones():
    for data, key in [
        ('sthv2', str),
        ('hmdb51', str),
        ('diving48', str),
        ('ucf101', str.lower),
        ('k400', str),
        # MMAction2 sorts the names with underscores in place of spaces.
        ('k400', lambda name: name.replace(' ', '_')),
    ]:
        assert names(data) == sorted(names(data), key=key)
    assert sorted(names('sthv1')) == names('sthv2')
    for data, first, last in [
        ('sthv1', 'Holding something', 'Poking a hole into some substance'),
        ('mit', 'clapping', 'typing'),
        ('jester', 'Swiping Left', 'Doing other things'),
    ]:
        assert names(data)[:: len(names(data)) - 1] == [first, last]

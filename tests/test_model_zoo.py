"""The model zoo lists every model with its counted costs and published accuracy."""

import re
from pathlib import PurePath

import benchmark
import torch
from config_files import cached_by_repr, frames_per_clip, read_config
from mmaction.registry import MODELS
from modelindex.load_model_index import load
from paths import CONFIGS, ROOT

# Top-1 on Something-Something V1 and V2, million parameters and GMACs.
PAPER = {
    'r50_8x2': (46.4, 59.1, '25.02', '23.85'),
    'r50_16x2': (48.4, 61.7, '25.02', '47.70'),
    'r101_8x2': (47.8, 60.2, '40.18', '32.15'),
    'r101_16x2': (49.6, 61.9, '40.18', '64.30'),
    'r101_24x2': (52.2, 64.0, '40.18', '96.45'),
    'r101_32x2': (53.1, 65.2, '40.18', '128.60'),
}
ZOO = (ROOT / 'docs' / 'model_zoo.md').read_text()
COMMAND = r'`python tools/convert_checkpoint.py (\S+) (\S+?)( --flow 10)?`'


def read_index():
    """Return the models of the metafiles by name."""
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    return {model.name: model for model in index.models}


def read_tables():
    """Return the cells of each table row that begins with a config, by its name."""
    rows = re.findall(r'^\| \[(.+?)\]\((.+?)\) \| (.+) \|$', ZOO, re.M)
    assert all(link == f'../configs/{name}.py' for name, link, _ in rows)
    return {name: cells.split(' | ') for name, _, cells in rows}


INDEX = read_index()
TABLES = read_tables()


@cached_by_repr
def count_backbone(backbone, clip_len):
    """Return the parameters and MACs of a backbone's config."""
    # Counting needs only shapes, which meta tensors have.
    with torch.device('meta'):
        module = MODELS.build(backbone)
        channels = backbone.get('in_channels', 3)
        clip = torch.empty(clip_len, channels, 224, 224)
    counted = benchmark.count(module, clip)
    return counted['parameters'], counted['macs']


def count_parameters(module):
    return sum(weight.numel() for weight in module.parameters())


def count(name):
    """Return the million parameters and GMACs of a config's model, formatted as in the table."""
    cfg = read_config(name)
    model = cfg.model
    parameters, macs = count_backbone(model.backbone, frames_per_clip(cfg))
    head = MODELS.build(model.cls_head)
    parameters += count_parameters(head)
    macs += head.num_segments * head.fc_cls.weight.numel()
    return f'{parameters / 1e6:.2f}', f'{macs / 1e9:.2f}'


def test_every_config_of_the_paper_is_listed():
    configs = {f.stem for f in CONFIGS.glob('*.py') if re.search('_(sthv1|sthv2|k400|mit)', f.stem)}
    assert set(INDEX) == configs
    assert set(TABLES) == configs


def test_parameters_and_macs_are_those_of_the_built_model():
    for name, model in INDEX.items():
        parameters, macs = count(name)
        metadata = model.metadata.data
        assert metadata['Parameters'] == f'{parameters}M', name
        assert metadata['FLOPs'] == f'{macs}G', name
        assert TABLES[name][1:3] == [parameters, macs], name


def test_the_numbers_of_the_paper_are_met():
    for size, (*top1, parameters, gmacs) in PAPER.items():
        for version, accuracy in enumerate(top1, 1):
            cells = TABLES[f'blvnet_tam_{size}_sthv{version}']
            assert cells[:3] == [str(accuracy), parameters, gmacs], size


def test_the_index_and_the_tables_agree():
    for name, entry in INDEX.items():
        model, cells = entry.data, TABLES[name]
        assert model['Config'] == f'configs/{name}.py'
        assert (ROOT / model['Config']).is_file()
        results = model.get('Results')
        if cells[0] == '-':
            assert not results, name
        else:
            (result,) = results
            assert str(result.metrics['Top 1 Accuracy']) == cells[0], name
            assert 'published by the paper' in model['Results From']
        page = re.fullmatch(r'\[page\]\((.+)\)', cells[3])
        origin = model.get('Converted From')
        assert (page[1] if page else None) == (origin and origin['Weights'])


def test_converting_makes_the_file_that_longer_clips_start_from():
    for name, (*_, page, command) in TABLES.items():
        if command == '-':
            assert page == 'none published', name
            continue
        source, destination, flow = re.fullmatch(COMMAND, command).groups()
        assert destination == f'checkpoints/{name}.pth'
        assert flow is None, name
        if 'ibm.box.com' in page:
            page_name = PurePath(page.rstrip(')')).name
            assert source == page_name.replace('-f', '-a2-b4-f') + '.pth.tar'


def test_the_imagenet_files_are_those_that_the_configs_load():
    _, _, section = ZOO.partition('## ImageNet weights')
    made = {destination: flow for _, destination, flow in re.findall(COMMAND, section)}
    backbones = [read_config(name).model.backbone for name in INDEX]
    loaded = {
        backbone.init_cfg.checkpoint: backbone.get('in_channels', 3)
        for backbone in backbones
        if backbone.get('init_cfg')
    }
    assert set(made) == set(loaded)
    for file, channels in loaded.items():
        assert made[file] == (' --flow 10' if channels == 10 else '')

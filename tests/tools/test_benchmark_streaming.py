import benchmark_streaming


def test_windows_and_streams_are_timed(capsys):
    benchmark_streaming.main(['--ways', 'windows', 'stream', '--size', '32', '--threads', '1', '--rounds', '1'])
    header, _, *lines = capsys.readouterr().out.strip().splitlines()
    assert header.startswith('| | ms per pair | pairs/s | of windows |')
    assert [line.split(' | ')[0] for line in lines] == ['| windows', '| stream']
    assert '| 1.0 times |' in lines[0]

"""The style of all pictures, as parameters of matplotlib."""

STYLE = {
    'axes.titlesize': 10,
    'figure.constrained_layout.use': True,
    'font.size': 8,
    'image.aspect': 'auto',
    'legend.columnspacing': 0.8,
    'legend.frameon': False,
    'legend.handlelength': 1,
    'legend.handletextpad': 0.4,
    'savefig.dpi': 100,
}

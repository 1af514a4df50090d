"""Sphinx's settings: python -m sphinx -W docs build/site."""

from mmblvnet import __version__

project = 'mmblvnet'
author = 'The mmblvnet authors'
copyright = '2026, The mmblvnet authors'
version = release = __version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode', 'sphinx_copybutton']

# Links to headings, as GitHub names them.
myst_heading_anchors = 3
# The pages begin below the title of what they include.
suppress_warnings = ['myst.header']

# Docstrings tell the types of arguments.
autodoc_typehints = 'none'
autodoc_inherit_docstrings = False
autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True}
toc_object_entries_show_parents = 'hide'
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# Diagrams in docstrings are no code.
highlight_language = 'none'

html_theme = 'furo'
html_title = f'mmblvnet {version}'


def setup(app) -> None:
    app.connect('autodoc-skip-member', skip_fields)


def skip_fields(app, what, name, value, skip, options) -> bool:
    """Fields of named tuples, which their class tells of."""
    return skip or str(value.__doc__).startswith('Alias for field')

"""Sphinx settings of the book's site; scripts/book_site.py lays out the pages and runs Sphinx on them."""

import tomllib
from pathlib import Path

_site = tomllib.loads((Path(__file__).parent / "site.toml").read_text(encoding="utf-8"))

project = "minivit"
author = "the minivit authors"
html_title = "minivit: a Vision Transformer from scratch"
language = "en-GB"
extensions = ["myst_nb"]
exclude_patterns = ["_static"]
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_show_sphinx = False
html_show_copyright = False
html_use_index = False
html_last_updated_fmt = None
mathjax_path = "mathjax/tex-mml-chtml.js"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = (
    "off"  # the notebooks are executed already, and the tests hold their outputs
)
nb_merge_streams = True
nb_code_prompt_show = "Show what comes out"
nb_code_prompt_hide = "Hide what comes out"
html_codeblock_linenos_style = "inline"
html_theme_options = {
    "use_download_button": True,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "navbar_persistent": [],  # the search stands beside the contents
    "footer_content_items": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
if _site["repository"]:
    html_theme_options |= {
        "repository_url": _site["repository"],
        "repository_branch": _site["branch"],
        "path_to_docs": "book",
        "use_repository_button": True,
    }

"""The site: links lead to its pages, nothing is fetched from elsewhere, and Chromium finds no fault in it."""

import importlib.util
import shutil

import pytest

from scripts import book, book_gates, book_site

without = [name for name in ("sphinx", "myst_nb", "sphinx_book_theme") if importlib.util.find_spec(name) is None]
fetched = list((book.ROOT / "build" / "npm").glob("mathjax-*.tgz"))


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("[a](../minivit/nn/patches.py#patchify)", "[a](#code-minivit-nn-patches-py-patchify)"),
        ("[a](../minivit/nn/patches.py)", "[a](/code/minivit-nn-patches-py.md)"),
        ("[a](../exercises/ch05.py#patchify)", "[a](#exercise-patchify)"),
        ("[a](../exercises/ch05.py)", "[a](/exercises/ch05.md)"),
        ("[a](01_images.ipynb)", "[a](01_images.ipynb)"),
        ("[a](01_images.ipynb#What,-and-what-not)", "[a](01_images.ipynb#what-and-what-not)"),
        ("[a](99_planned.ipynb)", "a"),
        ("[a](https://example.org)", "[a](https://example.org)"),
    ],
)  # fmt: skip
def test_links_lead_to_pages(link, page):
    assert book_site.relinked(link, set()) == page


def test_a_page_of_the_library_has_every_line_and_a_place_for_each_function():
    page = book_site.library_page("minivit/nn/patches.py")
    assert (
        "(code-minivit-nn-patches-py-patchify)=" in page and "(code-minivit-nn-patches-py-patchembed-forward)=" in page
    )
    source = (book.ROOT / "minivit/nn/patches.py").read_text(encoding="utf-8").splitlines()
    assert all(line in page for line in source)


def test_a_page_of_exercises_has_each_task():
    page = book_site.exercise_page(5)
    assert "(exercise-patchify)=" in page and "python -m exercises check patchify" in page and "def patchify(" in page


def test_things_from_elsewhere_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="https://fine.org">x</a><script src="https://bad.org/x.js"></script>')
    (tmp_path / "a.css").write_text('@import "//bad.org/x.css"; b { background: url(data:x) }')
    assert len(book_site.external(tmp_path)) == 2


@pytest.mark.slow
@pytest.mark.skipif(bool(without), reason=f"optional: {', '.join(without)} (requirements-site.txt)")
@pytest.mark.skipif(not fetched and shutil.which("npm") is None, reason="optional: npm, which fetches MathJax")
def test_the_site_is_built_and_chromium_finds_nothing_wrong(tmp_path):
    html, pages = book_site.build(tmp_path)
    assert len(pages) > len(book_gates.written_chapters())
    for path in book_gates.written_chapters():
        assert (html / "_sources" / f"{path.stem}.ipynb").read_bytes() == (
            book.BOOK / f"{path.stem}.ipynb"
        ).read_bytes()
        words = [
            o.data["text/plain"]
            for c in book_gates.code_cells(book_gates.committed(path))
            for o in c.outputs
            if "image/png" in o.get("data", {})
        ]
        page = (html / f"{path.stem}.html").read_text(encoding="utf-8")
        assert page.count("<img alt=") >= len(words)
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("optional: playwright (requirements-site.txt)")
    from scripts import book_browser

    if book_browser.chromium() is None:
        pytest.skip("optional: Chromium")
    some = ["index", "01_images", "exercises/ch01", next(page for page in pages if page.startswith("code/"))]
    assert book_browser.check(html, some) == []


def test_the_words_of_the_book_are_listed_with_their_sentences():
    page = book_site.glossary_page(book_gates.written_chapters())
    rows = [line for line in page.splitlines() if line.startswith("| ") and "first used" not in line]
    assert len(rows) > 50 and len({row.split(" | ")[0] for row in rows}) == len(rows)
    assert any(row.startswith("| class token |") and "(05_patches.ipynb)" in row for row in rows)
    assert not any("Further reading" in row for row in rows)

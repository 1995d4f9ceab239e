"""Every chapter passes every gate of scripts/book_gates.py."""

import pytest

from scripts import book, book_gates

CHAPTERS = book_gates.written_chapters()


@pytest.mark.parametrize("gate", book_gates.GATES)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_passes(chapter, gate):
    assert list(book_gates.GATES[gate](chapter, book_gates.committed(chapter))) == []


def test_every_planned_chapter_is_there_as_source_and_notebook():
    notebooks = {path.stem for path in book.BOOK.glob("*.ipynb")}
    assert notebooks == {path.stem for path in book.sources()} == set(book.CHAPTERS)


def test_the_photo_is_what_the_script_draws():
    from minivit import data
    from scripts import make_photo

    assert abs(data.read_pixels(make_photo.TARGET).astype(int) - make_photo.photo()).max() <= 1


def test_the_five_digits():
    from minivit import data

    assert data.digits().test.labels[[2, 0, 1, 3, 4]].tolist() == [0, 1, 3, 7, 8]

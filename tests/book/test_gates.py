"""The gates find what they are there for: a fault is planted in a small chapter, and one sentence says what it is."""

import nbformat
import pytest

from scripts import book, book_gates

FRONT = """\
# ---
# jupyter:
#   minivit:
#     title: A title
#     question: A question?
#     here: [patches]
#     minutes: 30
#     exercises: [patchify]
#     builds: [patchify]
# ---
"""
CHAPTER = (
    FRONT
    + """
# %% [markdown]
# Some words, and [a link](../minivit/nn/patches.py#patchify). Which is larger?

# %% tags=["hide-output"]
import minivit as mv

print(mv.patchify.__name__)

# %% [markdown]
# It breaks.

# %% tags=["break"]
try:
    1 / 0
except ZeroDivisionError as error:
    print(type(error).__name__, error)

# %% [markdown]
# A figure.

# %%
mv.viz.show(fig, alt="")

# %% [markdown]
# Yours.

# %% tags=["your-turn"]
check("patchify", ...)
"""
)
PICTURE = {"image/png": "iVBORw0KGgo=", "text/plain": "A line chart: loss falls from 2.3 to 0.1."}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A book with one chapter, 05_patches, and a function that writes another text for it and returns path and notebook."""
    (tmp_path / "src").mkdir()
    monkeypatch.setattr(book, "SOURCES", tmp_path / "src")
    book_gates.built_before.cache_clear()

    def put(text=CHAPTER, name="05_patches"):
        path = tmp_path / "src" / f"{name}.py"
        path.write_text(text, encoding="utf-8")
        notebook = book.notebook(path)
        for i, cell in enumerate(book_gates.code_cells(notebook), start=1):
            cell.execution_count = i
            if "viz.show" in cell.source:
                cell.outputs = [nbformat.v4.new_output("display_data", dict(PICTURE))]
            else:
                cell.outputs = [nbformat.v4.new_output("stream", text="patchify\n")]
        return path, notebook

    yield put
    book_gates.built_before.cache_clear()


def found(gate, path, notebook):
    return "\n".join(book_gates.GATES[gate](path, notebook))


@pytest.mark.parametrize("gate", [gate for gate in book_gates.GATES if gate != "size"])
def test_a_good_chapter_passes(shelf, gate):
    assert found(gate, *shelf()) == ""


def test_drift_is_found(shelf):
    path, notebook = shelf()
    path.write_text(CHAPTER.replace("Some words", "Other words"), encoding="utf-8")
    assert "cell 1 is not that of the source" in found("drift", path, notebook)
    path.write_text(CHAPTER + "\n# %% [markdown]\n# More.\n", encoding="utf-8")
    assert "the source has 10" in found("drift", path, notebook)
    path.write_text(CHAPTER.replace("A title", "Another"), encoding="utf-8")
    assert "cell 0" in found("drift", path, notebook)
    path.write_text(CHAPTER.replace("builds: [patchify]", "builds: []"), encoding="utf-8")
    assert "metadata" in found("drift", path, notebook)


def test_a_stripped_or_disordered_notebook_is_found(shelf):
    path, notebook = shelf()
    code = book_gates.code_cells(notebook)
    code[1].execution_count = None
    assert "execution count None, not 2" in found("executed", path, notebook)
    code[1].execution_count = 5
    assert "execution count 5, not 2" in found("executed", path, notebook)


def test_errors_and_warnings_are_found(shelf):
    path, notebook = shelf()
    code = book_gates.code_cells(notebook)
    code[0].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="", traceback=[])]
    code[1].outputs = [nbformat.v4.new_output("stream", name="stderr", text="RuntimeWarning: overflow")]
    faults = found("executed", path, notebook)
    assert "ends in ValueError" in faults and "overflow" in faults


@pytest.mark.parametrize(
    ("source", "printed"),
    [
        ("import time\nt = time.perf_counter()\nprint(time.perf_counter() - t)", "0.01"),
        ("from time import perf_counter\nprint(perf_counter())", "12.5"),
        ("%time f()", "3"),
        ("f()", "3.1 ms ± 20 µs per loop"),
        ("f()", "Wall time: 3 s"),
    ],
)
def test_printed_timings_are_found(shelf, source, printed):
    path, notebook = shelf()
    cell = book_gates.code_cells(notebook)[0]
    cell.source, cell.outputs = source, [nbformat.v4.new_output("stream", text=printed)]
    assert "prints a timing" in found("no_timings", path, notebook)
    cell.outputs = [nbformat.v4.new_output("stream", text="faster: True")]
    assert found("no_timings", path, notebook) == ""


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("mv.softmax(x).sum()", "softmax"),
        ("y = mv.nn.Attention(8, 2)", "nn.Attention"),
        ("from minivit.nn import Attention", "Attention"),
        ("import minivit.nn.block", "nn.block"),
        ("mv.ViT", "ViT"),
    ],
)
def test_names_from_later_chapters_are_found(shelf, line, name):
    shelf(FRONT.replace("[patchify]", "[softmax, nn.Attention, nn.block, ViT]"), "06_attention")
    text = CHAPTER.replace("print(mv.patchify.__name__)", line)
    assert f"uses mv.{name}, which no chapter up to here builds" in found("order", *shelf(text))
    earlier = FRONT.replace("builds: [patchify]", "builds: [softmax, nn.Attention, nn.block, ViT]")
    shelf(earlier, "04_classifier")
    book_gates.built_before.cache_clear()
    assert found("order", *shelf(text)) == ""


def test_tools_and_errors_are_free_and_the_first_chapter_is_exempt(shelf):
    text = CHAPTER.replace("print(mv.patchify", "mv.data.digits(), mv.ShapeError, mv.viz.BLUE\nprint(mv.patchify")
    assert found("order", *shelf(text)) == ""
    assert found("order", *shelf(CHAPTER.replace("print(mv.patchify", "print(mv.ViT"), "00_start")) == ""


def test_names_that_are_built_must_exist_and_be_named(shelf):
    faults = found("order", *shelf(CHAPTER.replace("builds: [patchify]", "builds: [patchify, patchfy, softmax]")))
    assert (
        "builds mv.patchfy, which minivit does not have" in faults and "builds mv.softmax, but never names it" in faults
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "without alt text"),
        ("<Figure size 640x480>", "without alt text"),
        ("Image of a line from 1 to 2.", "not begin with"),
        ("A chart from 1 to 2. " * 20, "at most 60 words"),
        ("A line that falls.", "deciding numbers"),
    ],
)
def test_missing_words_for_a_figure_are_found(shelf, words, complaint):
    path, notebook = shelf()
    data = dict(PICTURE, **{"text/plain": words}) if words else {"image/png": PICTURE["image/png"]}
    book_gates.code_cells(notebook)[2].outputs = [nbformat.v4.new_output("display_data", data)]
    assert complaint in found("alt_text", path, notebook)


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("../minivit/nn/patches.py", ""),
        ("../minivit/nn/patches.py#PatchEmbed.forward", ""),
        ("../minivit/nn/patches.py#nonsense", "defines no nonsense"),
        ("../minivit/nn/nonsense.py", "no such file"),
        ("../../elsewhere.txt", "outside the repository"),
        ("06_attention.ipynb", ""),  # planned
        ("18_more.ipynb", "no such chapter"),
        ("#A-heading", "no such heading"),
        ("https://example.org", ""),
    ],
)
def test_links_that_lead_nowhere_are_found(shelf, target, complaint):
    faults = found("links", *shelf(CHAPTER.replace("../minivit/nn/patches.py#patchify", target)))
    assert complaint in faults and bool(complaint) == bool(faults)


def test_headings_resolve(shelf):
    text = CHAPTER.replace("../minivit/nn/patches.py#patchify", "#A-heading").replace("# Yours.", "# ## A heading")
    assert found("links", *shelf(text)) == ""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("Some words", "Simply some words", "the word 'Simply'"),
        ("Some words", "word " * 160, "words without something to run"),
        ("print(mv.patchify.__name__)", "x = 1\n" * 20, "more than 15 lines"),
        ("print(mv.patchify.__name__)", "x = " + "1 + " * 30 + "1", "more than 90 columns"),
        ("# %% [markdown]\n# A figure.\n", "", "two code cells without a reason"),
        ("Which is larger?", "One is larger.", "without a question"),
        ("except ZeroDivisionError as error", "finally", "a break cell catches"),
    ],
)
def test_style_is_held(shelf, old, new, complaint):
    assert complaint in found("style", *shelf(CHAPTER.replace(old, new, 1)))


def test_code_in_prose_is_not_prose(shelf):
    text = CHAPTER.replace("Some words", "Some `just` words")
    assert found("style", *shelf(text)) == ""
    assert book_gates._words("Two words `and code`, $a + b$ and [a link](../x/y.py#z)\n| a | table |\n") == 7


def test_size_counts(shelf):
    faults = found("size", *shelf())
    assert all(
        what in faults for what in ("words, not 1800", "3 cells, not 12", "1 figures, not 3", "1 predictions, not 3")
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("exercises: [patchify]", "exercises: [patchfy]", "not in exercises/manifest.toml"),
        ("exercises: [patchify]", "exercises: [patchify, softmax]", "belongs to chapter 04"),
        ("exercises: [patchify]", "exercises: []", "front matter does not name it"),
        ('check("patchify", ...)', "...", "no cell with check"),
    ],
)
def test_exercises_that_do_not_match_are_found(shelf, old, new, complaint):
    assert complaint in found("homework", *shelf(CHAPTER.replace(old, new)))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("title:", "titel:", "title, titel"),
        ("minutes: 30", "minutes: half an hour", "minutes"),
        ("here: [patches]", "here: [patch]", "patch"),
        ('tags=["break"]', 'tags=["broken"]', "broken"),
        ('tags=["break"]', 'name="x"', "name"),
    ],
)
def test_a_misspelt_source_is_refused(shelf, old, new, complaint):
    with pytest.raises(SystemExit, match=complaint):
        shelf(CHAPTER.replace(old, new))


def test_a_chapter_without_notebook_is_found(shelf, monkeypatch, tmp_path):
    path, _ = shelf()
    monkeypatch.setattr(book, "BOOK", tmp_path)
    assert "was never made" in book_gates.faults(path)[0]


# --- making a notebook ------------------------------------------------------------------------------------------------


def test_the_strip_says_where_we_are():
    assert book.strip(["patches"]).startswith("pixels `(B, H, W, C)` → **▸ patches `(B, N, P·P·C)`** → tokens")
    assert "the way back" in book.strip(["gradients"]) and "the way back" not in book.strip([])


def test_colab_is_offered_once_there_is_a_repository(shelf, monkeypatch):
    assert "Colab" not in shelf()[1].cells[0].source
    monkeypatch.setattr(
        book, "published", lambda: {"repository": "https://github.com/someone/minivit", "branch": "main"}
    )
    path, notebook = shelf()
    address = "https://colab.research.google.com/github/someone/minivit/blob/main/book/05_patches.ipynb"
    assert f"[Open in Colab]({address})" in notebook.cells[0].source
    assert "git clone -q --depth 1 https://github.com/someone/minivit minivit" in notebook.cells[1].source
    notebook.cells[1].outputs = []
    assert all(found(gate, path, notebook) == "" for gate in ("drift", "executed", "order", "style", "homework"))
    assert book_gates.measure(notebook)["cells"] == 3


def test_ids_are_hashes_and_differ_where_cells_are_alike(shelf):
    twice = CHAPTER + '\n# %% [markdown]\n# Yours.\n\n# %% tags=["your-turn"]\ncheck("patchify", ...)\n'
    ids = [cell.id for cell in shelf(twice)[1].cells]
    assert len(set(ids)) == len(ids) and ids == [cell.id for cell in shelf(twice)[1].cells]
    assert ids[-1] == f"{ids[-3]}-2"


def test_executing_twice_gives_the_same_bytes(tmp_path, shelf):
    text = FRONT + "\n# %%\nfor i in range(5):\n    print(i, flush=True)\n\n# %% [markdown]\n# $x$\n\n# %%\n{1: 2}\n"
    path, _ = shelf(text)
    first, second = (book.written(book.execute(book.notebook(path), tmp_path)) for _ in range(2))
    assert first == second
    cell = nbformat.reads(first.decode(), as_version=4).cells[1]
    assert [output.text for output in cell.outputs] == ["0\n1\n2\n3\n4\n"]


def test_the_command_says_what_failed_and_writes_nothing(shelf, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(book, "BOOK", tmp_path)
    shelf(FRONT + "\n# %%\nundefined\n")
    assert book.main(["05"]) == 1 and "NameError" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.ipynb"))
    shelf(FRONT + "\n# %%\n1\n")
    assert book.main(["05"]) == 1 and "05_patches: written" in capsys.readouterr().out  # the gates find it too short
    assert book.main(["05", "--check"]) == 1
    with pytest.raises(SystemExit, match="no chapter begins with '9'"):
        book.main(["9"])

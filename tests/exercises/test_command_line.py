"""The command line and the check in a notebook, as a student uses them: right, wrong, broken, endless."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

import minivit as mv
from exercises import check, course, manifest, pictures, skeletons
from exercises.__main__ import main, watched
from exercises.checking import examine
from exercises.manifest import exercise, exercises
from minivit.engine.errors import ConfigError

PATCHIFY = """
    b, h, w, c = images.shape
    p = patch_size
    return images.reshape(b, h // p, p, w // p, p, c).swapaxes(2, 3).reshape(b, -1, p * p * c)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A student's own exercises: `mine("patchify", body)` writes a body into its skeleton."""
    monkeypatch.setattr(manifest, "FOLDER", tmp_path)
    monkeypatch.setattr(skeletons, "FOLDER", tmp_path)
    exercises()  # read before the folder moved
    for chapter in skeletons.chapters():
        skeletons.write(chapter)

    def write(name, body):
        path = exercise(name).skeleton
        head, tail = path.read_text(encoding="utf-8").split(f"def {name}(", 1)
        tail = tail.replace("    raise NotImplementedError\n", body.strip("\n") + "\n", 1)
        path.write_text(f"{head}def {name}({tail}", encoding="utf-8")
        return path

    write.folder = tmp_path
    return write


def test_check_prints_what_it_found(capsys):
    check("patchify", mv.patchify)
    check("patchify", lambda images, patch_size: images.reshape(len(images), -1, patch_size**2 * images.shape[3]))
    check("patchify", lambda images, patch_size: ...)
    out = capsys.readouterr().out
    assert out.startswith("✓ patchify: right on 3 inputs\n✗ patchify: ") and "images (1, 8, 12, 3), patch_size 4" in out
    assert out.splitlines()[-1].startswith("… patchify: not written yet")
    with pytest.raises(ConfigError, match="did you mean 'patchify'"):
        check("patchfy", mv.patchify)


def test_list_shows_marks_and_how_far(mine, capsys):
    mine("patchify", PATCHIFY)
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    points = exercise("patchify").points
    assert "✓ patchify" in out and "… softmax" in out and f"{points} of " in out.splitlines()[-1]


def test_next_names_the_first_that_is_open(mine, capsys):
    assert main(["next"]) == 0
    assert capsys.readouterr().out.startswith(next(iter(exercises())))


def test_check_one_or_all_that_are_begun(mine, capsys):
    mine("patchify", PATCHIFY)
    assert main(["check", "patchify"]) == 0
    assert main(["check"]) == 0
    assert capsys.readouterr().out.count("✓ patchify") == 2
    assert main(["check", "softmax"]) == 1 and "not written yet" in capsys.readouterr().out
    assert main(["check", "nonsense"]) == 2 and "no exercise 'nonsense'" in capsys.readouterr().err
    assert main(["check", "--file", str(mine.folder / "none.py")]) == 2


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("notes.md", "words", "is no script or notebook"),
        ("other.py", "x = 1\n", "defines none of the exercises"),
        ("broken.ipynb", "no JSON", "is not a notebook"),
        ("list.ipynb", "[]", "is not a notebook"),
    ],
)
def test_a_file_without_exercises_is_told_so(tmp_path, capsys, name, text, said):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert main(["check", "--file", str(tmp_path / name)]) == 2
    assert said in capsys.readouterr().err


def test_a_misspelt_command_is_told_what_was_meant(capsys):
    assert main(["chek"]) == 2
    assert "did you mean 'check'?" in capsys.readouterr().err


def test_a_fresh_course_is_told_where_to_begin(mine, capsys):
    assert main(["check"]) == 0
    assert "python -m exercises next" in capsys.readouterr().out


def test_a_check_takes_less_than_two_seconds(mine):
    mine("attention", "    return mv.softmax(q @ k.swapaxes(-1, -2) / q.shape[-1]) @ v")
    began = time.perf_counter()
    (_, outcome), *_ = course.outcomes([exercise("attention")])
    assert outcome.status == "wrong" and time.perf_counter() - began < 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("    while True:\n        pass", "still running after 3 seconds"),
        ("    import sys\n    sys.exit(0)", "ends Python itself"),
        ("    import os\n    os._exit(0)", "ended Python"),
        ("    return nump.zeros(3)", "name 'nump' is not defined"),
        ("    return input('how many? ')", "EOF"),
        ("    images += 1\n    return images", "changes its argument images"),
        ("    patches = images.reshape(len(images), -1)", "does a `return` lack?"),
    ],
)
def test_what_goes_wrong_is_told_and_the_rest_still_runs(mine, capsys, body, said):
    mine("patchify", body)
    mine("add_class_token", "    b, n, d = tokens.shape\n    print('hello')\n    return mv.concatenate("
         "[mv.broadcast_to(class_token, shape=(b, 1, d)), tokens], axis=1)")  # fmt: skip
    began = time.perf_counter()
    assert main(["check", "patchify", "add_class_token"]) == 1
    out = capsys.readouterr().out
    assert said in out and "✓ add_class_token" in out
    assert time.perf_counter() - began < 8


def test_a_syntax_error_stops_one_function_only(mine, capsys):
    path = mine("patchify", PATCHIFY)
    text = path.read_text(encoding="utf-8").replace(
        "def conv_is_patchify(images, kernel):", "def conv_is_patchify(images, kernel:"
    )
    path.write_text(text, encoding="utf-8")
    assert main(["check", "patchify", "conv_is_patchify"]) == 1
    out = capsys.readouterr().out
    assert "✓ patchify" in out and "Python cannot read line" in out


def test_a_renamed_function_is_missed_by_name(mine, capsys):
    path = mine("patchify", PATCHIFY)
    path.write_text(path.read_text(encoding="utf-8").replace("def patchify(", "def Patchify("), encoding="utf-8")
    assert main(["check", "patchify"]) == 1
    assert "has no function 'patchify'; there is 'Patchify': is that it?" in capsys.readouterr().out


def test_a_notebook_is_checked_too(tmp_path, capsys):
    cells = [
        {"cell_type": "markdown", "source": "text"},
        {"cell_type": "code", "source": ["%matplotlib inline\n", "import numpy as np\n", "raise ValueError\n"]},
        {"cell_type": "code", "source": f"def patchify(images, patch_size):{PATCHIFY}"},
        {"cell_type": "code", "source": "while True:\n    pass"},
        {"cell_type": "code", "source": "this is no Python"},
    ]
    path = tmp_path / "homework.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    assert main(["check", "--file", str(path)]) == 0
    assert capsys.readouterr().out.startswith("✓ patchify")


def test_hints_come_one_at_a_time(mine, capsys):
    for shown in (1, 2, 3, 3):
        assert main(["hint", "patchify"]) == 0
        assert capsys.readouterr().out.count(" of 3: ") == shown
    (mine.folder / ".hints.json").write_text("broken", encoding="utf-8")
    assert main(["hint", "patchify"]) == 0 and capsys.readouterr().out.startswith("1 of 3")


def test_the_solution_is_shown_after_success_or_surrender(mine, capsys):
    assert main(["solution", "patchify"]) == 1
    assert "--give-up" in capsys.readouterr().out
    assert main(["solution", "patchify", "--give-up"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# minivit/nn/patches.py, from line ") and "def patchify" in out and "chapter 05" in out
    mine("patchify", PATCHIFY)
    assert main(["solution", "patchify"]) == 0


@pytest.mark.parametrize("name", exercises())
def test_every_solution_can_be_shown(name):
    assert f"def {exercise(name).answer.__name__}" in course.solution(exercise(name))


def test_reset_keeps_a_copy(mine, capsys):
    path = mine("patchify", PATCHIFY)
    written = path.read_text(encoding="utf-8")
    fresh = skeletons.skeleton(5)
    assert main(["reset", "patchify"]) == 0
    (kept,) = (mine.folder / "backups").iterdir()
    assert kept.read_text(encoding="utf-8") == written and path.read_text(encoding="utf-8") == fresh
    path.write_text("def patchify(:\n", encoding="utf-8")
    assert main(["reset", "patchify"]) == 2 and "line 1" in capsys.readouterr().err


def test_watch_checks_what_was_saved(mine, capsys):
    known = {}
    course.changed_files(known)
    path = mine("patchify", PATCHIFY)
    assert course.changed_files(known) == [path] and course.changed_files(known) == []
    assert watched(None, seconds=0.01, rounds=2) == 0


def test_a_wrong_result_is_drawn_beside_the_right_one():
    right = np.arange(12.0).reshape(3, 4)
    wrong = right.copy()
    wrong[1, 2] = 0
    drawn = pictures.blocks(wrong, right).splitlines()
    assert len(drawn) == 4 and drawn[2].count("×") == 1 and drawn[1].count("×") == 0
    outcome = examine(exercise("patchify"), lambda images, patch_size: mv.patchify(images, patch_size)[:, ::-1])
    assert outcome.shown is not None and outcome.shown[0].shape == outcome.shown[1].shape


def test_plain_pytest_runs_the_exercises(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "exercises", "-p", "no:cacheprovider"],
        capture_output=True, text=True, cwd=manifest.FOLDER.parent,
    )  # fmt: skip
    assert done.returncode in (0, 1) and "skipped" in done.stdout, done.stdout + done.stderr

"""Grading a folder: every kind of submission, marks, files for other programs, and runs that are taken up again."""

import csv
import html.parser
import json
import os
import subprocess
import sys
import zipfile

import pytest

from exercises import grading, manifest, reports, submissions, wire
from exercises.__main__ import main
from exercises.calling import Attempt
from exercises.grading import grade, grade_all
from exercises.manifest import exercise, exercises
from exercises.submissions import Submission
from minivit.engine.errors import ConfigError

CROSS = """
import numpy as np

def cross_entropy(logits, labels):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    with np.errstate(divide="ignore"):
        loss = -np.log(p[rows, labels]).mean()
    p[rows, labels] -= 1
    return loss, p / len(labels)
"""
LAYER = """
import numpy as np
def layer_norm(x, weight, bias, eps=1e-6):
    x = x.numpy()
    unit = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return unit * weight.numpy() + bias.numpy()
"""
TASKS = ["cross_entropy", "layer_norm", "attention_bug"]


@pytest.fixture
def handed_in(tmp_path):
    """A folder with one submission of each kind."""
    folder = tmp_path / "in"
    (folder / "anna" / "week 4").mkdir(parents=True)
    (folder / "anna" / "week 4" / "ch04.py").write_text(CROSS, encoding="utf-8")
    (folder / "bert.py").write_text(LAYER, encoding="utf-8")
    cell = {"cell_type": "code", "source": LAYER.splitlines(keepends=True)}
    (folder / "=cmd.ipynb").write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
    with zipfile.ZipFile(folder / "dora.zip", "w") as archive:
        archive.writestr("../../ch04.py", CROSS)
        archive.writestr("/etc/ch04.py", CROSS)
        archive.writestr("home/ch08.py", LAYER)
        archive.writestr("__MACOSX/home/._ch08.py", b"\x00\x05")
    (folder / "emil.zip").write_bytes(b"no zip at all")
    (folder / "fred").mkdir()
    (folder / ".git").mkdir()
    if os.name == "posix":
        (folder / "gina").symlink_to(folder / "anna")
        (folder / "anna" / "ch08.py").symlink_to(folder / "bert.py")
    return folder


def test_every_kind_of_submission_is_read(handed_in):
    found = {s.student: s for s in submissions.read(handed_in)}
    assert list(found["anna"].files) == ["week 4/ch04.py"] and "link" in " ".join(found["anna"].problems)
    assert list(found["dora"].files) == ["home/ch08.py"]
    assert sum("leads out of the zip" in p for p in found["dora"].problems) == 2
    assert "cannot be read" in found["emil"].problems[0] and "no .py" in found["fred"].problems[0]
    assert "links are not followed" in found["gina"].problems[0] and not found["gina"].files
    assert ".git" not in found


def test_a_zip_bomb_stays_small(tmp_path):
    with zipfile.ZipFile(tmp_path / "big.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ch04.py", b"#" * 10_000_000)
    (found,) = submissions.read(tmp_path)
    assert not found.files and "larger than 2 MB" in found.problems[0]


@pytest.mark.parametrize("prepare", ["nothing", "empty", "twice"])
def test_a_folder_that_cannot_be_graded_is_told_so(tmp_path, capsys, prepare):
    folder = tmp_path / "in"
    if prepare != "nothing":
        folder.mkdir()
    if prepare == "twice":
        (folder / "a.py").write_text("", encoding="utf-8")
        (folder / "a.ipynb").write_text("{}", encoding="utf-8")
    assert main(["grade", str(folder)]) == 2
    assert str(folder) in capsys.readouterr().err


def test_points_follow_the_inputs_that_are_right():
    submission = Submission(
        "anna", {"ch04.py": CROSS, "ch08.py": LAYER, "ch06.py": "def attention_bug(x, a, b, c):\n    return x\n"}
    )
    report = grade(submission, [exercise(name) for name in TASKS], seed=3)
    wrong, right, listing = report.marks
    assert right.earned == right.points and right.status == "passed"
    assert 0 < wrong.earned < wrong.points and wrong.status == "wrong"  # logits a thousand apart are missed
    assert listing.earned == 0 and report.earned == wrong.earned + right.earned


def test_an_unrepaired_listing_earns_nothing():
    listing = exercise("training_bug").skeleton.read_text(encoding="utf-8")
    report = grade(Submission("anna", {"ch04.py": listing}), [exercise("training_bug"), exercise("softmax")], seed=0)
    assert [m.earned for m in report.marks] == [0, 0]
    assert report.marks[1].status == "not written yet"


def test_the_same_seed_gives_the_same_marks_and_another_gives_other_inputs():
    submission = Submission("anna", {"ch04.py": CROSS})
    one, two = (grade(submission, [exercise("cross_entropy")], seed=4) for _ in range(2))
    assert one.marks == two.marks
    constant = Submission(
        "eve", {"ch08.py": "def count_parameters(*a):\n    return 1\ndef layer_norm(*a):\n    return 0\n"}
    )
    assert grade(constant, [exercise("layer_norm")], seed=5).earned == 0


def test_what_a_teacher_should_look_at_is_flagged():
    text = "import os\nfrom minivit.engine.composed import softmax as s\nimport minivit as mv\n"
    text += "def softmax(x):\n    return mv.softmax(x)\ndef attention(q, k, v, scale=None):\n    return mv.softmax(q)\n"
    report = grade(Submission("eve", {"ch04.py": text}), [exercise("softmax"), exercise("attention")], seed=0)
    assert {"ch04.py: imports os", "ch04.py: takes softmax from minivit.engine.composed"} <= set(report.flags)
    assert report.marks[0].flags == ("uses minivit's own softmax",) and not report.marks[1].flags


def test_the_command_line_writes_every_form(handed_in, tmp_path, capsys):
    out = tmp_path / "out"
    forms = ["json", "csv", "html", "gradescope", "classroom50"]
    assert main(["grade", str(handed_in), "--to", str(out), "--only", *TASKS, "--seed", "9", "--out", *forms]) == 0
    total = sum(exercise(name).points for name in TASKS)
    held = json.loads((out / "grades.json").read_text(encoding="utf-8"))
    by_name = {s["student"]: s for s in held["students"]}
    assert held["seed"] == 9 and by_name["bert"]["earned"] == exercise("layer_norm").points == by_name["=cmd"]["earned"]
    assert by_name["emil"]["earned"] == 0 and by_name["emil"]["marks"][0]["status"] == "missing"

    with open(out / "grades.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["student"] for r in rows} >= {"anna", "bert", "'=cmd"} and all(r["points"] == str(total) for r in rows)

    page = (out / "index.html").read_text(encoding="utf-8")
    parser = html.parser.HTMLParser()
    parser.feed(page)
    assert "http" not in page and "layer_norm" in page
    assert "points; seed 9" in (out / "students" / "anna.html").read_text(encoding="utf-8")

    scope = json.loads((out / "gradescope" / "bert.json").read_text(encoding="utf-8"))
    assert scope["score"] == sum(t["score"] for t in scope["tests"]) == exercise("layer_norm").points
    assert {t["status"] for t in scope["tests"]} == {"passed", "failed"}

    room = json.loads((out / "classroom50" / "bert" / "result.json").read_text(encoding="utf-8"))
    assert room["schema"] == "classroom50/result/v1" and room["max-score"] == total
    assert isinstance(room["score"], int) and room["score"] == sum(t["score"] for t in room["tests"])
    assert set(room["tests"][0]) == {"test-name", "passed", "score", "max-score"}


def test_two_students_whose_files_would_have_one_name_are_refused(tmp_path):
    for name in ("a b.py", "a_b.py"):
        (tmp_path / name).write_text(LAYER, encoding="utf-8")
    with pytest.raises(ConfigError, match="two submissions of the same name: a_b"):
        submissions.read(tmp_path)


def test_one_file_is_marked_again_for_an_appeal(tmp_path, capsys):
    path = tmp_path / "anna.py"
    path.write_text(CROSS, encoding="utf-8")
    assert main(["grade", str(path), "--one", "--only", "cross_entropy", "--to", str(tmp_path), "--out", "json"]) == 0
    assert f"of {exercise('cross_entropy').points}; " in capsys.readouterr().out
    assert main(["grade", str(tmp_path / "none.py"), "--one"]) == 2 and "none.py" in capsys.readouterr().err


def test_html_escapes_what_strangers_wrote(tmp_path):
    text = "def softmax(x):\n    raise ValueError('<script>alert(1)</script>')\n"
    report = grade(Submission("<b>eve</b>", {"ch04.py": text}), [exercise("softmax")], seed=0)
    reports.write_html([report], tmp_path)
    pages = [p.read_text(encoding="utf-8") for p in tmp_path.rglob("*.html")]
    assert len(pages) == 2 and not any("<script>" in p or "<b>eve" in p for p in pages)


def test_an_interrupted_run_is_taken_up_again(tmp_path, monkeypatch):
    people = [Submission(name, {"ch08.py": LAYER}) for name in ("anna", "bert")]
    tasks = [exercise("layer_norm")]
    first = list(grade_all(people[:1], tasks, seed=1, folder=tmp_path))
    ran = []
    monkeypatch.setattr(grading, "grade", lambda s, *a, **k: ran.append(s.student) or first[0])
    again = list(grade_all(people, tasks, seed=1, folder=tmp_path))
    assert ran == ["bert"] and first[0] in again
    list(grade_all(people[:1], tasks, seed=2, folder=tmp_path))
    assert ran == ["bert", "anna"]  # another seed, another run


def test_a_grader_that_does_not_work_gives_no_zeros(monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises((ConfigError, OSError)):
        grading.preflight([exercise("softmax")], 0)


@pytest.fixture
def extra(tmp_path):
    """A teacher's own folder: an exercise of her own and another version of one of the book's."""
    folder = tmp_path / "extra"
    folder.mkdir()
    (folder / "manifest.toml").write_text(
        '[double]\nchapter = 90\ntitle = "Twice"\nstars = 1\nminutes = 1\npoints = 3\n'
        '[clip_global_norm]\nchapter = 10\ntitle = "Our own"\nstars = 1\nminutes = 1\npoints = 7\n', encoding="utf-8",
    )  # fmt: skip
    (folder / "workshop.py").write_text(
        'def double(x):\n    """Twice x: (n,) -> (n,)."""\n    return 2 * x\n\n'
        "def inputs_double(rng):\n    return [(rng.random(3),)]\n\n"
        "def clip_global_norm(a):\n    return a\n\ndef inputs_clip_global_norm(rng):\n    return [(rng.random(2),)]\n",
        encoding="utf-8",
    )
    (folder / "mistakes.py").write_text(
        "from exercises.mistakes import mistake\n\n@mistake('double', 'You gave x back: where is the 2?')\n"
        "def unchanged(x):\n    return x.copy()\n", encoding="utf-8",
    )  # fmt: skip
    before = dict(exercises())
    yield folder
    exercises().clear()
    exercises().update(before)


def test_a_teacher_s_own_exercises_are_graded(extra, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "anna.py").write_text(
        "def double(x):\n    return x + x\ndef clip_global_norm(a):\n    return a * 1\n", encoding="utf-8"
    )
    (folder / "bert.py").write_text("def double(x):\n    return 1 * x\n", encoding="utf-8")
    assert main(["grade", str(folder), "--extra", str(extra), "--to", str(tmp_path / "out"), "--out", "json"]) == 0
    held = json.loads((tmp_path / "out" / "grades.json").read_text(encoding="utf-8"))["students"]
    marks = [{m["id"]: m for m in s["marks"]} for s in held]
    assert marks[0]["double"]["earned"] == 3 and marks[0]["clip_global_norm"]["earned"] == 7
    assert "where is the 2" in marks[1]["double"]["message"]


def test_extra_exercises_that_are_not_whole_are_told_so(extra):
    (extra / "workshop.py").write_text("", encoding="utf-8")
    manifest._file.cache_clear()
    with pytest.raises(ConfigError, match="no inputs_double"):
        manifest.add(extra)


@pytest.mark.parametrize(
    "line",
    [
        "", "[]", "{}", "nonsense", '{"status": "passed", "result": 1, "error": "", "changed": null, "shares": false}',
        '{"status": "returned", "result": {"array": ["|O", [1], "AAAA"]}, "error": "", "changed": null, "shares": false}',
        '{"status": "returned", "result": {"array": ["<f8", [1000000000], "AAAA"]}, "error": "", "changed": null, "shares": 0}',
        '{"status": "returned", "result": {"array": ["<f8", [-1], "AAAA"]}, "error": "", "changed": null, "shares": 0}',
        '{"status": "returned", "result": {"module": "os"}, "error": "", "changed": 3, "shares": 0}',
        '{"status": "returned", "result": ' + '{"list": [' * 5000 + "]}" * 5000 + "}",
    ],
)  # fmt: skip
def test_what_is_no_result_is_not_read_as_one(line):
    assert wire.read(line) is None


def test_results_survive_the_wire(rng):
    import numpy as np

    from exercises.diagnosis import equal

    results = [1, 2.5, float("nan"), True, None, "a", (1, "b"), [rng.standard_normal((2, 3)), {"x": 1}], {1, 2},
               np.float32(1.5), np.arange(3), {0: 1.0, -1: 2.0}]  # fmt: skip
    for result in results:
        back = wire.read(wire.write(Attempt("returned", result)))
        assert back.status == "returned" and (back.result is result or equal(back.result, result))


def test_one_student_s_folder_is_graded_for_gradescope_and_classroom50(tmp_path, monkeypatch):
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "ch08.py").write_text(LAYER, encoding="utf-8")
    for name, value in {
        "CLASSROOM": "ml",
        "ASSIGNMENT": "week-8",
        "SUBMISSION_TAG": "submit/1",
        "COMMIT_URL": "c",
    }.items():
        monkeypatch.setenv(name, value)
    forms = ["gradescope", "classroom50"]
    assert main(["grade", str(folder), "--one", "--only", "layer_norm", "--to", str(tmp_path), "--out", *forms]) == 0
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["score"] == exercise("layer_norm").points
    held = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert (held["classroom"], held["assignment"], held["review"], held["release"]) == ("ml", "week-8", "c", "not set")


@pytest.mark.skipif(os.name != "posix", reason="Windows: Gradescope runs on Linux")
def test_the_gradescope_zip_runs_as_gradescope_would_run_it(tmp_path, extra):
    from scripts import gradescope

    manifest.add(extra)
    with zipfile.ZipFile(gradescope.build(3, ["layer_norm", "double"], extra)) as archive:
        archive.extractall(tmp_path / "source")
        assert archive.getinfo("run_autograder").external_attr >> 16 == 0o755
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "ch08.py").write_text(LAYER, encoding="utf-8")
    (tmp_path / "venv" / "bin").mkdir(parents=True)  # what setup.sh would have made
    (tmp_path / "venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    (tmp_path / "venv" / "bin" / "python").chmod(0o755)
    done = subprocess.run(
        ["bash", str(tmp_path / "source" / "run_autograder")], capture_output=True, text=True,
        env=os.environ | {"AUTOGRADER": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    held = json.loads((tmp_path / "results" / "results.json").read_text(encoding="utf-8"))
    assert held["score"] == exercise("layer_norm").points and len(held["tests"]) == 2

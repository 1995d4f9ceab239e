"""Attempts to forge a mark earn nothing, leave nothing behind and stop nobody."""

import os
import time

import pytest
from attacks import ATTACKS, HEAD

from exercises.grading import grade
from exercises.manifest import FOLDER, exercise
from exercises.submissions import Submission

HONEST = "\n\ndef patchify(images, patch_size):\n    return np.stack([cut(image, patch_size) for image in images])\n"
HELPER = """
import numpy as np

def cut(image, p):
    h, w, c = image.shape
    return np.stack([image[i:i+p, j:j+p].reshape(-1) for i in range(0, h, p) for j in range(0, w, p)])
"""
pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows: time is the only limit there")


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_earns_nothing_and_the_rest_is_graded(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = HELPER + HONEST + ATTACKS[name]
    wanted = "cross_entropy" if "cross_entropy" in text else "softmax"
    tasks = [exercise(wanted), exercise("patchify")]
    began = time.perf_counter()
    report = grade(Submission("eve", {"ch04.py": text}), tasks, seed=11, seconds=20, megabytes=1024)
    assert time.perf_counter() - began < 30
    marks = {m.id: m for m in report.marks}
    assert marks[wanted].earned == 0 and marks[wanted].status in ("wrong", "stopped", "not written yet", "missing")
    if (
        "loading" not in name and "patches" not in name
    ):  # who breaks Python for himself breaks it for his other functions
        assert marks["patchify"].earned == marks["patchify"].points, marks["patchify"].message
    assert not list(tmp_path.iterdir())


def test_the_teacher_s_page_counts_them_rightly():
    page = (FOLDER / "TEACHERS.md").read_text(encoding="utf-8")
    assert f"holds {len(ATTACKS)} attempts" in page


def test_the_library_may_be_used_where_it_is_not_the_answer():
    text = (
        HEAD
        + "def first_loss(rng, features, hidden, classes):\n    return tuple(np.zeros(s) for s in ((2, 2), (2, 2)))\n"
    )
    text += (
        "def attention(q, k, v, scale=None):\n    return mv.softmax(q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5) @ v\n"
    )
    report = grade(Submission("ann", {"ch06.py": text}), [exercise("attention")], seed=3)
    assert report.marks[0].status == "passed", report.marks[0].message

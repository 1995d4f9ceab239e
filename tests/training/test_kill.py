"""A run that is killed (SIGKILL) again and again, and resumed, ends with the very bits of one that was left alone."""

import random
import subprocess
import sys
import time

import numpy as np
import pytest

from minivit.interop import safetensors

KILLS = 22
CHILD = """
import sys
import minivit as mv
from minivit.training import loop
loop.CHECKPOINT_SECONDS = 0.0  # a checkpoint after every step: most kills hit one being written
out, resume = sys.argv[1], sys.argv[2] == "resume"
model = mv.create("vit_digits", dim=16, depth=2, drop_path=0.1, dropout=0.1, seed=1)
print("ready", flush=True)
options = dict(epochs=3, batch_size=64, augment="affine", ema=0.9, mixup=0.2, patience=9, seed=1)
mv.fit(model, mv.data.load("digits"), out=out, resume=resume, progress=False, **options)
"""


def start(out, mode):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(out), mode], stdout=subprocess.PIPE, text=True)
    with child.stdout as said:
        assert said.readline() == "ready\n"
    return child


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_and_resumed_ends_with_the_same_bits(tmp_path):
    undisturbed = start(tmp_path / "whole", "new")
    assert undisturbed.wait(60) == 0
    expected, _ = safetensors.read(tmp_path / "whole" / "checkpoint.safetensors")

    moments, kills, mode = random.Random(0), 0, "new"
    path = tmp_path / "killed" / "checkpoint.safetensors"
    while kills < KILLS:
        child = start(tmp_path / "killed", mode)
        time.sleep(moments.uniform(0.0, 0.12))
        if child.poll() is not None:  # it finished before we came: begin again with another folder's worth of kills
            path.unlink()
            mode = "new"
            continue
        child.kill()
        child.wait()
        kills += 1
        if path.exists():
            safetensors.read(path)  # whole, or this raises
            mode = "resume"
    assert start(tmp_path / "killed", mode).wait(60) == 0
    actual, _ = safetensors.read(path)
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
    assert not list(path.parent.glob("*.tmp")) and not list(path.parent.glob(".*.tmp"))

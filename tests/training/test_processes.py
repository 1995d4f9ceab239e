"""Forked workers: the same bits as threads, and nothing left behind however a run ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

import minivit as mv
from minivit.training.processes import Processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Windows and macOS have no safe fork")

SIZES = {"image_size": 8, "patch_size": 4, "in_channels": 1, "num_classes": 5, "dim": 8, "depth": 2, "num_heads": 2}


@pytest.fixture
def batch(rng):
    return rng.standard_normal((13, 8, 8, 1)).astype("float32"), rng.integers(0, 5, 13)


def make_step(processes=True, shards=2, workers=2, loss_fn=mv.cross_entropy, **options):
    model = mv.ViT(**SIZES, **options)
    model.head.weight.data[...] = np.random.default_rng(1).standard_normal(model.head.weight.shape)
    optimizer = mv.optim.AdamW(model.parameters(), lr=0.01)
    return mv.TrainStep(model, optimizer, loss_fn, 0.5, shards=shards, workers=workers, processes=processes, seed=7)


def children():
    return multiprocessing.active_children()


@pytest.mark.parametrize(("shards", "workers"), [(2, 2), (3, 2), (5, 3), (2, 4), (None, 2)])
def test_processes_do_not_change_a_bit(shards, workers, batch):
    def train(processes, workers):
        with make_step(processes, shards or 2, workers, drop_path=0.3, dropout=0.2, patch_dropout=0.5) as step:
            if shards is None and processes:
                step.shards = None  # the default is two parts, however small the work
            return [step(*batch) for _ in range(4)], step.model.state_dict()

    (losses, weights), (other_losses, other) = train(False, 1), train(True, workers)
    assert losses == other_losses
    for name in weights:
        np.testing.assert_array_equal(weights[name], other[name], err_msg=name)


def test_close_leaves_neither_process_nor_pipe(batch):
    files = len(os.listdir("/proc/self/fd"))
    with make_step(shards=3, workers=3) as step:
        step(*batch)
        assert len(children()) == 2
    assert children() == [] and len(os.listdir("/proc/self/fd")) == files
    assert step(*batch) > 0  # and it can go on: the next step forks again
    step.close()


def test_an_exception_in_a_worker_is_raised_here(batch):
    def loss(logits, labels):
        if (labels == 4).any():
            raise ValueError("no fours here")
        return mv.cross_entropy(logits, labels)

    images, labels = batch
    with make_step(loss_fn=loss) as step:
        labels[:] = 0
        first = step(images, labels)
        labels[-1] = 4  # in the second part, which another process computes
        with pytest.raises(ValueError, match="no fours here") as caught:
            step(images, labels)
        assert any("in a worker process" in note and "loss" in note for note in caught.value.__notes__)
        assert children() == []
        labels[-1] = 0
        assert step(images, labels) < first


def test_a_loss_that_is_not_finite_changes_nothing(batch):
    with make_step() as step, np.errstate(invalid="ignore"):
        step(*batch)
        before = step.model.state_dict()
        images = batch[0].copy()
        images[-1] = np.nan
        with pytest.raises(mv.NonFiniteError, match="the loss is nan at step 1; nothing was changed"):
            step(images, batch[1])
        assert all(np.array_equal(a, before[n]) for n, a in step.model.state_dict().items())
        assert np.isfinite(step(*batch))


def test_a_killed_worker_is_reported_and_replaced(batch):
    with make_step() as step, make_step(processes=False) as calm:
        step(*batch), calm(*batch)
        (worker,) = children()
        worker.kill()
        with pytest.raises(
            mv.WorkerError, match=r"exit code -9.*nothing was changed, and the next step starts another"
        ):
            step(*batch)
        assert children() == []
        assert step(*batch) == calm(*batch)


def test_modes_and_arrays_may_change_between_steps(batch):
    def train(processes):
        with make_step(processes, dropout=0.5) as step:
            losses = [step(*batch)]
            step.model.eval()
            losses.append(step(*batch))
            step.model.train()
            step.model.load_state_dict(step.model.state_dict())
            losses.append(step(*batch))
            step.model.astype("float64").astype("float32")  # other arrays
            return [*losses, step(*batch)]

    assert train(True) == train(False)


def test_a_parameter_that_only_a_later_part_uses(batch):
    """Its gradient comes from another process alone, whose slot the next part writes into."""

    class Sometimes(mv.Module):
        def __init__(self):
            self.always, self.rarely = mv.Parameter(np.ones(3)), mv.Parameter(np.ones(3))

        def forward(self, x):
            return x * self.always + (x * self.rarely if x.max() > 10 else 0)

    def train(processes):
        model = Sometimes()
        optimizer, rows = mv.optim.SGD(model.parameters(), lr=0.1), np.array([[1.0], [20.0], [2.0], [30.0]])

        def loss_fn(y, _):
            return (y * y).mean()

        with mv.TrainStep(model, optimizer, loss_fn, shards=4, workers=2, processes=processes) as step:
            step(rows * np.ones((4, 3)), np.zeros(4))
        return model.state_dict()

    plain, forked = train(False), train(True)
    assert all(np.array_equal(plain[n], forked[n]) for n in plain) and not np.array_equal(plain["rarely"], np.ones(3))


def test_whoever_watches_sees_every_operation(batch):
    with make_step() as step, mv.profile() as seen:
        step(*batch)
    assert seen.rows["linear", "backward"][0] == 2 * (1 + 4 + 5 + 1)  # both parts: patches, two blocks, head
    assert children() == []


def test_refusals(monkeypatch, backend):
    model = mv.ViT(**SIZES)
    if backend.name != "numpy":
        with pytest.raises(mv.ConfigError, match="for models in ordinary memory, this one is on a GPU"):
            Processes(2, model, model.parameters())
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(mv.ConfigError, match="processes=True needs Linux, this is darwin; leave it out to use threads"):
        Processes(2, model, model.parameters())


PARENT = """
import multiprocessing, sys
import minivit as mv
model = mv.create("vit_digits", dim=16, depth=2)
out = sys.argv[1]
import minivit.training.loop as loop
done = loop.TrainStep.__call__
def call(self, *batch):
    loss = done(self, *batch)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    return loss
loop.TrainStep.__call__ = call
result = mv.fit(model, mv.data.load("digits"), out=out, epochs=50, progress=False, processes=True, shards=3, workers=3)
print("interrupted" if result.interrupted else "finished", flush=True)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_an_ended_parent_leaves_nothing(how, tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with parent.stdout as said:
        pids = said.readline().split()
        try:
            workers = [psutil.Process(int(pid)) for pid in pids]
            assert len(workers) == 2
        except BaseException:
            parent.kill()
            raise
        if how == "SIGINT":
            os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to all of them
        else:
            os.kill(parent.pid, getattr(signal, how))
        rest = said.read()
    parent.wait(20)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not [w for w in alive if w.status() != psutil.STATUS_ZOMBIE]
    if how == "SIGINT":
        assert rest.endswith("interrupted\n") and (tmp_path / "checkpoint.safetensors").exists()


def test_two_training_steps_at_once_do_not_keep_each_others_workers_alive(batch):
    """The second one's workers inherit the first one's pipes."""
    first, second = make_step(), make_step()
    first(*batch), second(*batch)
    start = time.monotonic()
    first.close(), second.close()
    assert children() == [] and time.monotonic() - start < 2

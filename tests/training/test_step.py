"""One training step: what it computes, that workers do not change it, and that it fails without doing harm."""

import threading

import numpy as np
import pytest
import threadpoolctl

import minivit as mv
from minivit.training import workers

SIZES = {"image_size": 8, "patch_size": 4, "in_channels": 1, "num_classes": 5, "dim": 8, "depth": 2, "num_heads": 2}


def make(dtype="float64", seed=0, **options):
    model = mv.ViT(**SIZES, **options, seed=seed).astype(dtype)
    head = np.random.default_rng(1).standard_normal(model.head.weight.shape)
    model.head.weight.data[...] = head  # a zero head would let no gradient through
    return model


@pytest.fixture
def batch(rng):
    return rng.standard_normal((13, 8, 8, 1)), rng.integers(0, 5, 13)


def test_it_is_forward_backward_update(batch):
    model, twin = make(), make()
    loss = mv.cross_entropy(twin(batch[0]), batch[1])
    loss.backward()
    mv.optim.AdamW(twin.parameters(), lr=0.01).step()
    with mv.TrainStep(model, mv.optim.AdamW(model.parameters(), lr=0.01), shards=1) as step:
        assert step(*batch) == pytest.approx(loss.item(), rel=1e-12)
    for (name, a), b in zip(model.named_parameters(), twin.parameters(), strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("parts", [{"shards": 3}, {"accumulate": 4}, {"shards": 2, "accumulate": 2}, {"shards": 99}])
def test_parts_of_a_batch_add_up_to_the_whole(parts, batch):
    def gradients(**kw):
        model = make()
        optimizer = mv.optim.SGD(model.parameters(), lr=1.0)
        with mv.TrainStep(model, optimizer, **kw) as step:
            loss = step(*batch)
        return loss, [p.data for p in model.parameters()]

    whole, parted = gradients(shards=1), gradients(**parts)
    assert parted[0] == pytest.approx(whole[0], rel=1e-12)
    for a, b in zip(whole[1], parted[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shards", [2, 3])
def test_workers_do_not_change_a_bit(shards, batch):
    def train(workers):
        model = make("float32", drop_path=0.3, dropout=0.2, patch_dropout=0.5)
        optimizer = mv.optim.AdamW(model.parameters(), lr=0.01)
        with mv.TrainStep(model, optimizer, clip=0.5, shards=shards, workers=workers, seed=7) as step:
            return [step(*batch) for _ in range(4)], model.state_dict()

    (losses, weights), (other_losses, other) = train(1), train(4)
    assert losses == other_losses
    for name in weights:
        np.testing.assert_array_equal(weights[name], other[name], err_msg=name)


def test_blas_threads_do_not_change_a_bit(rng):
    """One part has as many BLAS threads as there are workers; the products here are large enough for two to be used."""
    images, labels = rng.standard_normal((64, 8, 8, 1)).astype("float32"), rng.integers(0, 10, 64)

    def train(workers):
        model = mv.ViT(8, 2, 1, 10, dim=64, depth=2, num_heads=4)
        with mv.TrainStep(model, mv.optim.AdamW(model.parameters(), lr=0.01), shards=1, workers=workers) as step:
            return [step(images, labels) for _ in range(5)], model.state_dict()

    (losses, weights), (other_losses, other) = train(1), train(2)
    assert losses == other_losses
    for name in weights:
        np.testing.assert_array_equal(weights[name], other[name], err_msg=name)


def test_parts_by_work():
    def parts(model, n, side, channels=1):
        return workers.parts_by_work(model, np.zeros((n, side, side, channels), np.float32))

    small = mv.create("vit_digits", drop_path=0.5, patch_dropout=0.5)
    assert parts(small, 64, 8) == 1  # as little work is not shared
    assert workers.values_per_image(small, np.zeros((1, 8, 8, 1), np.float32)) == pytest.approx(40_810, rel=0.01)
    assert small.training, "the mode is as before"
    many = [parts(mv.create("vit_28"), n, 28) for n in (100, 110, 500, 1000, 2000)]
    assert many == [1, 2, 2, 4, 8]


def test_clip_bounds_the_step(batch):
    model = make()
    before = model.state_dict()
    with mv.TrainStep(model, mv.optim.SGD(model.parameters(), lr=1.0), clip=0.1) as step:
        step(*batch)
    moved = np.sqrt(sum(((a - before[n]) ** 2).sum() for n, a in model.state_dict().items()))
    assert step.norm > 0.1 and moved == pytest.approx(0.1, rel=1e-4)


def test_a_loss_that_is_not_finite_changes_nothing(batch):
    model = make()
    before = model.state_dict()
    with mv.TrainStep(model, mv.optim.AdamW(model.parameters())) as step, np.errstate(invalid="ignore"):
        images = batch[0].copy()
        images[3, 0, 0, 0] = np.nan
        with pytest.raises(mv.NonFiniteError, match="the loss is nan at step 0; nothing was changed"):
            step(images, batch[1])
    assert all(np.array_equal(a, before[n]) for n, a in model.state_dict().items())


def test_blas_threads_and_workers_are_given_back(batch):
    def threads():
        return [lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]

    before, running = threads(), threading.active_count()
    model = make()
    with mv.TrainStep(model, mv.optim.AdamW(model.parameters()), shards=2, workers=2) as step:
        step(*batch)
        assert threads() == before
        with pytest.raises(mv.ShapeError):
            step(batch[0][:, :7], batch[1])
        assert threads() == before
    assert threading.active_count() == running


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda step, x, y: step(x, y[:5]), "13 images but 5 labels"),
        (lambda step, x, y: step(x[:0], y[:0]), "the batch is empty"),
        (lambda step, x, y: step(x, y + 3), "label 7 is outside the 5 classes"),
    ],
)
def test_bad_batches(call, text, batch):
    model = make()
    with (
        mv.TrainStep(model, mv.optim.AdamW(model.parameters()), shards=1) as step,
        pytest.raises(mv.ShapeError, match=text),
    ):
        call(step, *batch)


def test_impossible_counts():
    model = make()
    with pytest.raises(mv.ConfigError, match="must be at least 1"):
        mv.TrainStep(model, mv.optim.AdamW(model.parameters()), accumulate=0)

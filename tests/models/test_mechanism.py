"""What must hold exactly for any Vision Transformer: counts, first loss, order of patches, gradients, memorising."""

import math

import numpy as np
import pytest

import minivit as mv
from minivit.engine import gradcheck, random
from minivit.nn import Block, Linear, init, patchify, unpatchify

SIZES = {"image_size": 12, "patch_size": 4, "in_channels": 2, "num_classes": 5, "dim": 16, "depth": 2, "num_heads": 2}

# Every option in one model; what is random is drawn from a stream that the test sets.
EVERYTHING = {
    "registers": 2, "layer_scale": 0.5, "drop_path": 0.2, "patch_dropout": 0.3, "dropout": 0.1, "qk_norm": True,
    "rope": True, "mlp": "swiglu", "positions": "learned_sincos",
}  # fmt: skip


def randomised(model, scale=0.2):
    rng = np.random.default_rng(1)
    state = {n: a + (scale * rng.standard_normal(a.shape)).astype(a.dtype) for n, a in model.state_dict().items()}
    model.load_state_dict(state)
    return model


@pytest.fixture
def no_numbers(monkeypatch):
    """Weights of zeros, which cost neither time nor memory until they are touched."""
    monkeypatch.setattr(init, "truncated_normal", lambda *shape, std: np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit_tiny_patch16_224", 5_717_416),
        ("vit_small_patch16_224", 22_050_664),
        ("vit_base_patch16_224", 86_567_656),
        ("vit_large_patch16_224", 304_326_632),
    ],
)
def test_parameter_counts(name, count, no_numbers):
    model = mv.create(name)
    assert model.num_parameters() == count
    dim, depth = model.config["dim"], model.config["depth"]
    block = 12 * dim * dim + 13 * dim
    assert [b.num_parameters() for b in model.blocks] == [block] * depth
    # patches, their bias, class token, positions, last norm, head: nothing else
    assert count == depth * block + (768 + 1) * dim + dim + 197 * dim + 2 * dim + (dim + 1) * 1000


@pytest.mark.parametrize("dim", [8, 96])
def test_parameters_of_a_block(dim):
    assert Block(dim, 4).num_parameters() == 12 * dim**2 + 13 * dim


@pytest.mark.parametrize("name", [n for n in mv.presets if not n.endswith("224")])
def test_small_presets_run(name, rng):
    model = mv.create(name)
    c = model.config
    h, w = model.image_size
    assert model(rng.random((2, h, w, c["in_channels"]))).shape == (2, c["num_classes"])


@pytest.mark.parametrize("kind", ["ViT", "linear", "cnn"])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_the_first_loss_is_the_logarithm_of_the_number_of_classes(rng, kind, classes):
    options = {"image_size": 12, "in_channels": 2, "num_classes": classes}
    model = mv.ViT(**SIZES | options) if kind == "ViT" else mv.create(kind, **options)
    logits = model(rng.random((6, 12, 12, 2)))
    assert not logits.numpy().any()
    loss = mv.cross_entropy(logits, rng.integers(0, classes, 6))
    assert loss.item() == pytest.approx(math.log(classes), rel=1e-6)


def permuted(images, order, patch=4):
    """The same patches in other places."""
    return unpatchify(patchify(images, patch)[:, order], patch, images.shape[1:3])


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize("registers", [0, 2])
def test_without_positions_the_order_of_patches_does_not_matter(rng, pool, registers):
    images, order = rng.random((3, 12, 12, 2), np.float32), rng.permutation(9)
    blind = randomised(mv.ViT(**SIZES, positions="none", pool=pool, registers=registers)).eval()
    assert blind.pos_embed is None
    np.testing.assert_allclose(blind(permuted(images, order)).numpy(), blind(images).numpy(), rtol=0, atol=1e-5)
    for options in ({"positions": "learned"}, {"positions": "sincos"}, {"positions": "none", "rope": True}):
        model = randomised(mv.ViT(**SIZES, pool=pool, registers=registers, **options)).eval()
        difference = np.abs(model(permuted(images, order)).numpy() - model(images).numpy()).max()
        assert difference > 1e-3, options


def test_a_patch_changes_every_token_after_one_block(rng):
    model = randomised(mv.ViT(**SIZES))
    images = rng.random((1, 12, 12, 2), np.float32)
    changed = images.copy()
    changed[0, :4, :4] += 1
    before, after = (mv.trace(model, x).tokens for x in (images, changed))
    moved = [np.abs(a - b).max(axis=-1)[0] for a, b in zip(before, after, strict=True)]
    assert (moved[0] > 0).nonzero()[0].tolist() == [1]
    assert (moved[1] > 0).all()


def put(model, name, value):
    """Make `value` the parameter of that dotted name."""
    *path, last = name.split(".")
    for part in path:
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    setattr(model, last, value)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_gradients_of_a_whole_model(rng, pool, monkeypatch):
    """Every option on, in training mode, in float64: the image's and each parameter's gradient, to 1e-6."""
    monkeypatch.setattr(gradcheck, "ELEMENTS", 0)  # random directions through all elements, which is quicker
    sizes = SIZES | {"dim": 8, "image_size": (8, 12), "patch_size": (4, 2), "num_classes": 3}
    model = randomised(mv.ViT(**sizes, **EVERYTHING, pool=pool)).astype("float64")
    names = [name for name, _ in model.named_parameters()]
    labels = np.array([0, 2, 1])

    def loss(images, *parameters):
        for name, p in zip(names, parameters, strict=True):
            put(model, name, p)
        with random.drawing_from(random.stream(0, "test")):
            return mv.cross_entropy(model(images), labels, smoothing=0.1)

    arrays = [rng.random((3, 8, 12, 2)), *model.state_dict().values()]
    report = gradcheck.gradcheck(loss, *arrays, rtol=1e-6, atol=1e-10, eps=1e-5, directions=4)
    assert report.count(": ok") == len(names) + 1


def test_the_gradient_check_of_a_whole_model_can_fail(rng, monkeypatch):
    monkeypatch.setattr(gradcheck, "ELEMENTS", 0)
    model = randomised(mv.ViT(**SIZES | {"depth": 1})).astype("float64")
    forward = Linear.forward
    monkeypatch.setattr(
        Linear, "forward", lambda self, x, *columns: forward(self, x, *columns) + 1e-4 * x.detach().sum()
    )
    with pytest.raises(mv.GradientError, match="WRONG"):
        gradcheck.gradcheck(lambda x: model(x), rng.random((2, 12, 12, 2)), rtol=1e-6, eps=1e-5)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_32_images_of_noise_are_learned_by_heart(rng, pool):
    model = mv.ViT(**SIZES | {"num_classes": 4}, pool=pool)
    images, labels = rng.random((32, 12, 12, 2), np.float32) - 0.5, rng.integers(0, 4, 32)
    optimizer = mv.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(150):
        model.zero_grad()
        loss = mv.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    assert (model(images).numpy().argmax(axis=1) == labels).all()
    assert loss.item() < 0.1


@pytest.mark.parametrize(
    "options",
    [
        {},
        EVERYTHING,
        {"pool": "mean", "positions": "sincos", "registers": 1},
        {"positions": "none", "mlp": "gelu_tanh"},
    ],
    ids=["plain", "everything", "mean", "none"],
)
def test_two_training_steps_over_backends(backend, rng, options):
    """Forward, backward and update, at a foreign image size too: the same numbers wherever the arrays live."""
    images = [rng.random((4, 12, 12, 2), np.float32), rng.random((4, 8, 16, 2), np.float32)]
    labels = np.array([0, 4, 1, 2])

    def train(place):
        model = randomised(mv.ViT(**SIZES, **options)).to(place)
        # with a small eps, Adam makes full steps of rounding noise where the gradient is 0 (the keys' bias)
        optimizer = mv.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-3)
        losses = []
        for step, batch in enumerate(images):
            model.zero_grad()
            with random.drawing_from(random.stream(0, "dropout", step)):
                loss = mv.cross_entropy(model(batch), labels)
            assert loss.backend == place
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, model.state_dict()

    losses, state = train(backend.name)
    expected, reference = train("numpy")
    assert losses == pytest.approx(expected, abs=1e-5)
    assert losses[0] != losses[1]
    for name, array in state.items():
        np.testing.assert_allclose(array, reference[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["linear", "cnn"])
def test_baselines_over_backends(backend, rng, kind):
    images, labels = rng.random((4, 12, 12, 2), np.float32), np.array([0, 4, 1, 2])

    def train(place):
        model = randomised(mv.create(kind, image_size=12, in_channels=2, num_classes=5)).to(place)
        mv.cross_entropy(model(images), labels).backward()
        gradients = {name: mv.to_numpy(p.grad) for name, p in model.named_parameters()}
        mv.optim.SGD(model.parameters(), lr=0.1, momentum=0.9).step()
        return gradients | {f"{name} after": a for name, a in model.state_dict().items()}

    found, expected = train(backend.name), train("numpy")
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"registers": 2},
        {"rope": True, "qk_norm": True},
        {"layer_scale": 0.5, "qkv_bias": False},
        {"depth": 1},
        {"depth": 0},
    ],
    ids=str,
)
def test_the_last_block_for_the_class_token_alone_is_exact(options):
    """Looking inside computes every token of the last block, otherwise only the class token: the same logits and gradients."""
    sizes = {
        "image_size": 8,
        "patch_size": 4,
        "in_channels": 1,
        "num_classes": 3,
        "dim": 16,
        "depth": 2,
        "num_heads": 2,
    }
    model = mv.ViT(**(sizes | options)).astype("float64")
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data[...] = 0.3 * rng.standard_normal(p.shape)
    images, labels = rng.standard_normal((3, 8, 8, 1)), np.array([0, 1, 2])

    def run():
        model.zero_grad()
        logits = model(images)
        mv.cross_entropy(logits, labels).backward()
        return logits.numpy(), [p.grad for p in model.parameters()]

    short = run()
    with mv.nn.tapped(lambda name, make: None):
        whole = run()
    np.testing.assert_allclose(short[0], whole[0], rtol=1e-12)
    for name, a, b in zip(dict(model.named_parameters()), short[1], whole[1], strict=True):
        if a is None:
            np.testing.assert_array_equal(b, 0, err_msg=name)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=name)

"""The small ResNet: its parameters by formula, its block by hand, and what images it takes."""

import numpy as np
import pytest

import minivit as mv
from minivit.models.resnet import BasicBlock, ResNet

SIZES = {"image_size": 8, "in_channels": 2, "num_classes": 5, "width": 4, "blocks_per_stage": 1}


def formula(c, k, w, n):
    """Stem, three stages of n blocks and head; norms have 2 numbers for each channel, convolutions no bias."""
    total = 9 * c * w + 2 * w + 4 * w * k + k
    a = w
    for b in (w, 2 * w, 4 * w):
        first = 9 * a * b + 9 * b * b + 4 * b
        total += first + (a != b) * (a * b + 2 * b) + (n - 1) * (18 * b * b + 4 * b)
        a = b
    return total


@pytest.mark.parametrize(("c", "k", "w", "n"), [(3, 10, 16, 2), (1, 10, 8, 2), (2, 5, 4, 1), (3, 7, 12, 3)])
def test_parameters_are_counted_exactly(c, k, w, n):
    assert ResNet(32, c, k, w, n).num_parameters() == formula(c, k, w, n)


def test_presets():
    assert mv.create("resnet_32").num_parameters() == formula(3, 10, 16, 2) == 175_258
    assert mv.create("resnet_digits").num_parameters() == formula(1, 10, 8, 2) == 44_226


def norm(x, layer):
    groups = x.reshape(*x.shape[:3], 4, -1)
    groups = groups - groups.mean(axis=(1, 2, 4), keepdims=True)
    groups = groups / np.sqrt((groups**2).mean(axis=(1, 2, 4), keepdims=True) + 1e-5)
    return groups.reshape(x.shape) * layer.weight.numpy() + layer.bias.numpy()


def conv(x, weight, stride, padding):
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    k = len(weight)
    h, w = ((side - k) // stride + 1 for side in x.shape[1:3])
    y = np.empty((len(x), h, w, weight.shape[-1]))
    for i, j in np.ndindex(h, w):
        window = x[:, i * stride : i * stride + k, j * stride : j * stride + k]
        y[:, i, j] = np.einsum("brsc,rsck->bk", window, weight)
    return y


@pytest.mark.parametrize(("a", "b", "stride"), [(4, 4, 1), (4, 8, 2)])
def test_the_block_by_hand(rng, a, b, stride):
    block = BasicBlock(a, b, stride).astype("float64")
    for p in block.parameters():
        p.data += 0.3 * rng.standard_normal(p.shape)
    x = rng.standard_normal((2, 6, 4, a))
    y = np.maximum(norm(conv(x, block.conv1.weight.numpy(), stride, 1), block.norm1), 0)
    y = norm(conv(y, block.conv2.weight.numpy(), 1, 1), block.norm2)
    short = x if stride == 1 else norm(conv(x, block.downsample.weight.numpy(), stride, 0), block.norm3)
    assert (block.downsample is None) == (stride == 1)
    np.testing.assert_allclose(block(mv.Tensor(x)).numpy(), np.maximum(short + y, 0), rtol=0, atol=1e-12)


def test_every_parameter_learns(rng):
    model = ResNet(**SIZES)
    model.head.weight.data += rng.standard_normal((16, 5), np.float32)
    mv.cross_entropy(model(rng.random((2, 8, 8, 2), np.float32)), [1, 4]).backward()
    assert min(np.abs(p.grad).max() for p in model.parameters()) > 1e-6


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (28, 28), (9, 5)])
def test_it_is_saved_traced_and_takes_other_sizes(tmp_path, rng, size):
    model, images = ResNet(**SIZES).eval(), rng.random((3, *size, 2), np.float32)
    mv.save(model, tmp_path / "x")
    again = mv.load(tmp_path / "x")
    assert type(again) is ResNet and np.array_equal(again(images).numpy(), model(images).numpy())
    trace = mv.trace(model, images, keep=("features", "logits", "*.act1", "act1"))
    quarter = tuple((n + 3) // 4 for n in size)
    assert trace.features["layers.2"].shape == (3, *quarter, 16) and trace.features["act1"].shape == (3, *size, 4)
    assert trace.features["layers.1.act1"].min() >= 0 and trace.logits.shape == (3, 5)
    assert trace.attention == [] and trace.tokens == []


def test_without_classes_it_gives_features(rng):
    images = rng.random((2, 8, 8, 2), np.float32)
    model = ResNet(**SIZES | {"num_classes": 0}).eval()
    assert np.array_equal(model(images).numpy(), model.features(images).numpy()) and model(images).shape == (2, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 6}, "width 6 does not divide into 4 groups"),
        ({"width": 2}, "width must be a whole number, at least 4, got 2"),
        ({"blocks_per_stage": 0}, "blocks_per_stage must be a whole number, at least 1"),
        ({"in_channels": 1.5}, "in_channels must be a whole number"),
    ],
)
def test_sizes_that_cannot_be(options, message):
    with pytest.raises(mv.ConfigError, match=message):
        ResNet(**SIZES | options)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 3), (2, 8, 3, 2)])
def test_images_that_do_not_fit(shape):
    with pytest.raises(mv.ShapeError, match=r"images must be \(B, H, W, 2\), H and W at least 4"):
        ResNet(**SIZES)(np.zeros(shape, np.float32))

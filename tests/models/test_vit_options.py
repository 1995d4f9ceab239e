"""Each option of the ViT, tested for what it means."""

import numpy as np
import pytest

import minivit as mv
from minivit.engine import random
from minivit.nn import LayerNorm, patchify, rope_2d, sincos_2d

SIZES = {"image_size": 12, "patch_size": 4, "in_channels": 2, "num_classes": 5, "dim": 16, "depth": 2, "num_heads": 2}


def vit(seed=1, **options):
    """A ViT whose every parameter is random, the zero head included."""
    model = mv.ViT(**SIZES | options)
    rng = np.random.default_rng(seed)
    state = {n: a + 0.3 * rng.standard_normal(a.shape, np.float32) for n, a in model.state_dict().items()}
    model.load_state_dict(state)
    return model


@pytest.fixture
def images(rng):
    return rng.random((3, 12, 12, 2), np.float32)


def patch_tokens(model, images):
    """The embedded patches before positions: (B, N, D)."""
    weight, bias = model.patch_embed.proj.weight.numpy(), model.patch_embed.proj.bias.numpy()
    return patchify(images, model.patch_size) @ weight + bias


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


# --- pooling and prefix tokens ----------------------------------------------------------------------------------------


def test_pool_cls_reads_the_class_token_after_the_norm(images):
    model = vit()
    assert model.fc_norm is None and model.norm is not None
    trace = mv.trace(model, images)
    assert trace.tokens[0].shape == (3, 10, 16)
    close(trace.tokens[0][:, 0], np.tile(model.cls_token.numpy()[0, 0] + model.pos_embed.numpy()[0, 0], (3, 1)))
    close(model.features(images).numpy(), trace.final[:, 0])


def test_pool_mean_averages_the_patches_and_then_norms(images):
    model = vit(pool="mean", registers=2)
    assert model.cls_token is None and model.norm is None
    trace = mv.trace(model, images)
    x = trace.tokens[-1][:, 2:].mean(axis=1)
    unit = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    close(model.features(images).numpy(), unit * model.fc_norm.weight.numpy() + model.fc_norm.bias.numpy())
    names = [name for name, _ in model.named_parameters()]
    assert "fc_norm.weight" in names and "cls_token" not in names and "norm.weight" not in names


def test_without_classes_the_features_come_out(images):
    model = vit(num_classes=0)
    assert model.head is None
    assert np.array_equal(model(images).numpy(), model.features(images).numpy())


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_registers_stand_between_class_token_and_patches_without_a_position(images, pool):
    model = vit(registers=3, pool=pool)
    first = int(pool == "cls")
    assert model.num_prefix == first + 3 and model.pos_prefix == 0
    assert model.pos_embed.shape == (1, 9, 16)
    tokens = mv.trace(model, images).tokens[0]
    assert tokens.shape == (3, first + 3 + 9, 16)
    assert np.array_equal(tokens[:, first : first + 3], np.repeat(model.reg_token.numpy(), 3, axis=0))
    if first:
        assert np.array_equal(tokens[:, 0], np.repeat(model.cls_token.numpy()[0], 3, axis=0))
    close(tokens[:, first + 3 :], patch_tokens(model, images) + model.pos_embed.numpy())


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_registers_are_dropped_at_the_output(images, pool):
    model = vit(registers=3, pool=pool, depth=0)  # nothing can pass from them to other tokens
    before = model(images).numpy()
    model.reg_token.data[...] = 100
    assert np.array_equal(model(images).numpy(), before)
    model = vit(registers=3, pool=pool)
    model(images).sum().backward()
    assert np.abs(model.reg_token.grad).max() > 0  # but through attention they matter


# --- positions --------------------------------------------------------------------------------------------------------


def test_learned_positions_start_as_small_noise():
    table = mv.ViT(**SIZES).pos_embed
    assert table.requires_grad and table.shape == (1, 10, 16)
    assert 0.01 < table.data.std() < 0.02


def test_learned_sincos_positions_start_as_the_table_and_learn(images):
    model = mv.ViT(**SIZES, positions="learned_sincos", position_base=100.0)
    assert model.pos_embed.requires_grad
    assert not model.pos_embed.data[0, 0].any()  # the class token's
    assert np.array_equal(model.pos_embed.data[0, 1:], sincos_2d(3, 3, 16, 100.0))


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_sincos_positions_are_frozen_but_stored(images, pool):
    model = vit(positions="sincos", pool=pool)
    before = model.pos_embed.data.copy()
    optimizer = mv.optim.AdamW(model.parameters(), lr=0.1)
    mv.cross_entropy(model(images), np.array([0, 1, 2])).backward()
    optimizer.step()
    assert model.pos_embed.grad is None
    assert np.array_equal(model.pos_embed.data, before)
    assert "pos_embed" in model.state_dict()
    learned = mv.ViT(**SIZES, positions="learned", pool=pool)
    frozen = mv.ViT(**SIZES, positions="sincos", pool=pool)
    assert learned.num_parameters() - frozen.num_parameters() == learned.pos_embed.size


def test_positions_are_added_once_to_each_patch(images):
    model = vit()
    tokens = mv.trace(model, images).tokens[0]
    close(tokens[:, 1:], patch_tokens(model, images) + model.pos_embed.numpy()[:, 1:])


def test_rope_leaves_tokens_alone_and_turns_queries_and_keys(images):
    model = vit(rope=True, positions="none", registers=1)
    trace = mv.trace(model, images)
    close(trace.tokens[0][:, 2:], patch_tokens(model, images))
    qkv = trace.features["blocks.0.attn.qkv"].reshape(3, 11, 3, 2, 8).transpose(2, 0, 3, 1, 4)
    cosine, sine = rope_2d(3, 3, 8, prefix=2)
    q, k = (x * cosine + np.concatenate([-x[..., 4:], x[..., :4]], -1) * sine for x in qkv[:2])
    scores = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(8))
    close(trace.attention[0], scores / scores.sum(-1, keepdims=True))


def test_rope_reads_coordinates_from_the_run_time_grid(rng):
    model = vit(rope=True, positions="none")
    cosine, sine = model._rotation((2, 5), mv.Tensor(np.zeros(1, np.float32)))
    expected = rope_2d(2, 5, 8, prefix=1)
    assert np.array_equal(cosine.numpy(), expected[0]) and np.array_equal(sine.numpy(), expected[1])
    assert model(rng.random((2, 8, 20, 2))).shape == (2, 5)


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_non_square_images_and_patches(rng):
    model = vit(image_size=(8, 18), patch_size=(2, 6))
    assert model.grid == (4, 3) and model.pos_embed.shape == (1, 13, 16)
    images = rng.random((2, 8, 18, 2), np.float32)
    tokens = mv.trace(model, images).tokens[0]
    third = images[:, 2:4, 12:18].reshape(2, -1)  # row 1, column 2: patch 5
    weight, bias = model.patch_embed.proj.weight.numpy(), model.patch_embed.proj.bias.numpy()
    close(tokens[:, 1 + 5], third @ weight + bias + model.pos_embed.numpy()[:, 1 + 5])
    assert model.image_size == (8, 18) and model.patch_size == (2, 6)


@pytest.mark.parametrize("registers", [0, 2])
def test_other_image_sizes_get_resized_positions(rng, registers):
    model = vit(image_size=(12, 8), registers=registers)
    prefix = model.pos_prefix
    images = rng.random((2, 8, 20, 2), np.float32)
    tokens = mv.trace(model, images).tokens[0]
    assert tokens.shape == (2, model.num_prefix + 10, 16)
    table = model.pos_embed.numpy()
    resized = mv.nn.resize_positions(table[:, prefix:], (3, 2), (2, 5))
    close(tokens[:, model.num_prefix :], patch_tokens(model, images) + resized)
    expected = model.cls_token.numpy()[0, 0] + (table[0, 0] if prefix else 0)
    close(tokens[0, 0], expected)  # the class token's position is not touched


def test_the_gradient_flows_through_resized_positions(rng):
    model = vit(image_size=(12, 8))
    model(rng.random((2, 8, 20, 2))).sum().backward()
    assert model.pos_embed.grad.shape == (1, 7, 16)
    assert (np.abs(model.pos_embed.grad).max(axis=-1) > 0).all()


def test_a_transposed_grid_is_another_grid(rng):
    model = vit(image_size=(12, 8))
    wide, own = model._positions((2, 3)), model._positions((3, 2))
    assert own is model.pos_embed
    assert wide.shape == own.shape and not np.allclose(wide.numpy(), own.numpy())


# --- random parts -----------------------------------------------------------------------------------------------------


def test_stochastic_depth_rises_linearly():
    model = mv.ViT(**SIZES | {"depth": 5}, drop_path=0.4)
    np.testing.assert_allclose([b.drop_path1.rate for b in model.blocks], [0, 0.1, 0.2, 0.3, 0.4], atol=1e-12)
    assert [b.drop_path1.rate for b in model.blocks] == [b.drop_path2.rate for b in model.blocks]


def test_stochastic_depth_keeps_the_expectation_and_does_nothing_in_eval(images):
    model = vit(depth=1)
    block = mv.nn.Block(16, 2, drop_path=0.3)
    block.load_state_dict(model.blocks[0].state_dict())
    x = mv.Tensor(np.repeat(mv.trace(model, images).tokens[0][:1], 4000, axis=0))
    whole = block.eval()(x[:1]).numpy()
    assert np.array_equal(whole, model.blocks[0](x[:1]).numpy())
    with random.drawing_from(random.stream(0, "test")):
        dropped = block.train()(x).numpy()
    branch = block.attn(block.norm1(x[:1])).numpy()
    assert len(np.unique(dropped[:, 0, 0].round(4))) == 4  # two branches, each there or not
    alone = np.isclose(dropped, (x + mv.Tensor(branch / np.float32(0.7))).numpy(), atol=1e-5).all(axis=(1, 2)).mean()
    assert alone == pytest.approx(0.7 * 0.3, abs=0.03)


@pytest.mark.parametrize(("rate", "kept"), [(0.5, 4), (0.25, 6), (0.8, 1), (0.99, 1), (0.1, 8)])
@pytest.mark.parametrize("options", [{}, {"pool": "mean"}, {"registers": 2}])
def test_patch_dropout_keeps_some_patches_and_every_prefix_token(rng, rate, kept, options):
    model = vit(patch_dropout=rate, **options)
    images = mv.Tensor(rng.random((8, 12, 12, 2), np.float32))
    whole, _ = model.eval().embed(images)
    assert whole.shape[1] == model.num_prefix + 9
    with random.drawing_from(random.stream(0, "test")):
        some, _ = model.train().embed(images)
    prefix = model.num_prefix
    assert some.shape == (8, prefix + kept, 16)
    assert np.array_equal(some.numpy()[:, :prefix], whole.numpy()[:, :prefix])
    choices = []
    for all_tokens, found in zip(whole.numpy()[:, prefix:], some.numpy()[:, prefix:], strict=True):
        places = [np.flatnonzero((all_tokens == token).all(axis=1)) for token in found]
        assert all(len(place) == 1 for place in places)  # each is one of this image's patches, with its position
        choices.append(tuple(int(place[0]) for place in places))
        assert list(choices[-1]) == sorted(set(choices[-1]))
    assert len(set(choices)) > 1  # each image keeps others


@pytest.mark.parametrize(("patches", "rate", "kept"), [(10, 0.8, 2), (20, 0.9, 2), (10, 0.7, 3), (10, 0.75, 2)])
def test_the_number_of_kept_patches_is_not_fooled_by_binary_fractions(patches, rate, kept):
    model = mv.ViT(
        image_size=(1, patches), patch_size=1, in_channels=1, dim=4, depth=0, num_heads=1, patch_dropout=rate
    )
    assert model.embed(mv.Tensor(np.zeros((1, 1, patches, 1), np.float32)))[0].shape[1] == 1 + kept


def test_patch_dropout_takes_each_patch_equally_often():
    model = vit(patch_dropout=0.5, pool="mean", positions="none", depth=0)
    images = np.zeros((2000, 12, 12, 2), np.float32)
    images += np.repeat(np.repeat(np.arange(9).reshape(3, 3), 4, 0), 4, 1)[None, :, :, None]  # the patch's number
    model.patch_embed.proj.weight.data[...] = 1 / 32
    model.patch_embed.proj.bias.data[...] = 0
    with random.drawing_from(random.stream(0, "test")):
        tokens, _ = model.embed(mv.Tensor(images))
    share = np.bincount(tokens.numpy()[:, :, 0].round().astype(int).ravel(), minlength=9) / 2000
    np.testing.assert_allclose(share, 4 / 9, atol=0.05)


def test_patch_dropout_and_rope_keep_a_patch_and_its_angle_together(rng):
    model = vit(patch_dropout=0.5, rope=True, registers=1)
    images = mv.Tensor(rng.random((4, 12, 12, 2), np.float32))
    whole, table = model.eval().embed(images)
    with random.drawing_from(random.stream(0, "test")):
        some, rotation = model.train().embed(images)
    assert rotation[0].shape == (4, 1, 6, 8)
    for b in range(4):
        for t, token in enumerate(some.numpy()[b]):
            place = int(np.flatnonzero((whole.numpy()[b] == token).all(axis=1))[0])
            for kept, all_angles in zip(rotation, table, strict=True):
                assert np.array_equal(kept.numpy()[b, 0, t], all_angles.numpy()[place])
    assert model(images).shape == (4, 5)


def test_random_parts_repeat_with_their_stream(images):
    model = vit(dropout=0.2, drop_path=0.3, patch_dropout=0.4)

    def run(step):
        with random.drawing_from(random.stream(0, "dropout", step)):
            return model(images).numpy()

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))
    model.eval()
    assert np.array_equal(run(1), run(2))
    assert np.array_equal(run(1), vit()(images).numpy())  # and nothing of them is left in eval mode


# --- the other options ------------------------------------------------------------------------------------------------


def test_qk_norm_and_eps_reach_every_block():
    model = mv.ViT(**SIZES, qk_norm=True, eps=0.5)
    norms = {name: m for name, m in model.named_modules() if isinstance(m, LayerNorm)}
    assert {m.eps for m in norms.values()} == {0.5}
    assert norms["blocks.1.attn.k_norm"].weight.shape == (8,)
    assert len(norms) == 2 * 4 + 1


def test_layer_scale_of_zero_makes_the_depth_meaningless(images):
    deep = vit(layer_scale=1e-5)
    for block in deep.blocks:
        block.ls1.gamma.data[...] = block.ls2.gamma.data[...] = 0
    trace = mv.trace(deep, images)
    assert all(np.array_equal(tokens, trace.tokens[0]) for tokens in trace.tokens)
    start = mv.ViT(**SIZES, layer_scale=1e-5).blocks[1].ls2.gamma.data
    assert start.dtype == np.float32 and (start == np.float32(1e-5)).all()


def test_options_off_by_default_add_no_parameters():
    names = {name.split(".", 2)[-1] for name, _ in mv.ViT(**SIZES).named_parameters() if name.startswith("blocks")}
    assert names == {f"{part}.{kind}" for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
                     for kind in ("weight", "bias")}  # fmt: skip


def test_qkv_without_bias():
    model = mv.ViT(**SIZES, qkv_bias=False)
    assert all(block.attn.qkv.bias is None for block in model.blocks)
    assert model.blocks[0].attn.proj.bias is not None


def test_the_seed_decides_the_first_values(images):
    same = [mv.ViT(**SIZES, seed=3).state_dict() for _ in range(2)]
    other = mv.ViT(**SIZES, seed=4).state_dict()
    assert all(np.array_equal(same[0][name], same[1][name]) for name in other)
    assert not np.array_equal(same[0]["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_model_computes_in_its_own_type(rng, dtype):
    model = vit(rope=True, registers=1, qk_norm=True, layer_scale=0.1).astype(dtype)
    for images in (rng.random((2, 12, 12, 2)), rng.random((2, 8, 8, 2), np.float32)):
        logits = model(images)
        assert logits.dtype == dtype
        logits.sum().backward()
        assert {p.grad.dtype for p in model.parameters()} == {np.dtype(dtype)}
        model.zero_grad()


def test_config_holds_every_argument_and_builds_the_model_again():
    import inspect

    model = mv.ViT(**SIZES, registers=2)
    assert model.config.keys() == inspect.signature(mv.ViT).parameters.keys()
    again = mv.ViT(**model.config)
    assert again.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 10}, "image_size 10×10 is not a whole number of 4×4 patches"),
        ({"image_size": (12, 10)}, "image_size 12×10 is not"),
        ({"patch_size": 0}, "0×0 patches"),
        (
            {"image_size": (12, 12, 2)},
            r"image_size \(12, 12, 2\) and patch_size 4 must each be a whole number or a pair",
        ),
        ({"image_size": "12"}, "must each be a whole number or a pair"),
        ({"patch_size": 4.0}, "must each be a whole number or a pair"),
        ({"num_heads": 3}, "dim 16 does not divide into num_heads 3"),
        ({"num_heads": 0}, "num_heads must be a whole number, at least 1, got 0"),
        ({"dim": 16.0}, r"dim must be a whole number, at least 1, got 16\.0"),
        ({"dim": "16"}, "dim must be a whole number"),
        ({"depth": -1}, "depth must be a whole number, at least 0, got -1"),
        ({"registers": -1}, "registers must be a whole number"),
        ({"num_classes": None}, "num_classes must be a whole number, at least 0, got None"),
        ({"in_channels": 0}, "in_channels must be a whole number, at least 1"),
        ({"seed": -3}, "seed must be a whole number"),
        ({"pool": "max"}, "pool: unknown choice 'max', choose one of cls, mean"),
        ({"positions": "sincoss"}, "positions: unknown choice 'sincoss'.*did you mean 'sincos'"),
        ({"mlp": "glu"}, "mlp: unknown choice 'glu'"),
        ({"mlp_ratio": 0}, "mlp_ratio 0 leaves the MLP"),
        ({"mlp_ratio": -1.0}, "mlp_ratio -1.0 leaves the MLP"),
        ({"rope": True, "num_heads": 8}, "rope: each head's width 2 must be a multiple of 4"),
        ({"positions": "sincos", "dim": 18}, "dim 18 must be a multiple of 4"),
        ({"drop_path": 1.0}, "drop_path: 1.0 is not a rate"),
        ({"drop_path": 1.5, "depth": 1}, "drop_path: 1.5 is not a rate"),
        ({"patch_dropout": -0.5}, "patch_dropout: -0.5 is not a rate"),
        ({"dropout": 2}, "dropout: 2 is not a rate"),
    ],
)
def test_sizes_and_choices_that_cannot_be(options, message):
    with pytest.raises(mv.ConfigError, match=message):
        mv.ViT(**SIZES | options)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 12, 12, 1), r"images must be \(B, H, W, 2\), got \(3, 12, 12, 1\)"),
        ((3, 2, 12, 12), "channels come last"),
        ((12, 12, 2), "a single image needs a batch axis"),
        ((3, 12, 10, 2), "12×10 image is not a whole number of 4×4 patches"),
    ],
)
def test_images_that_do_not_fit(shape, message):
    with pytest.raises(mv.ShapeError, match=message):
        vit()(np.zeros(shape, np.float32))


# --- names ------------------------------------------------------------------------------------------------------------


def test_create_by_name():
    model = mv.create("vit_digits", depth=1, num_heads=2)
    assert len(model.blocks) == 1 and model.config["num_heads"] == 2 and model.config["dim"] == 48
    assert type(mv.create("linear", num_classes=3)).__name__ == "LinearClassifier"
    assert type(mv.create("cnn", width=8)).__name__ == "SmallCNN"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mv.create("vit_digit"), "unknown model 'vit_digit'.*did you mean 'vit_digits'"),
        (lambda: mv.create("vit_digits", deph=2), "ViT has no argument 'deph'; did you mean 'depth'?"),
        (lambda: mv.create("cnn", dim=2), "SmallCNN has no argument 'dim'"),
        (lambda: mv.create("cnn", width=6), "6 channels do not divide into 4 groups"),
    ],
)
def test_names_that_do_not_exist(call, message):
    with pytest.raises(mv.ConfigError, match=message):
        call()

"""Make the golden files of Google's models: small random checkpoints, and what Google's own code computes with them.

Run from anywhere with a Python that has jax, flax, einops, scipy and packaging (none of them is needed by the tests). The
models' code is not on the package index; give folders with the two repositories, github.com/google-research/vision_transformer
and github.com/google-research/big_vision:

    python tests/golden/make_google.py VISION_TRANSFORMER BIG_VISION

Of each case of google_cases.json there is a checkpoint, google_NAME.npz, with the names that such files have, and
google_NAME_expected.npz with images of its own size (0) and of another (1), logits, the tokens after the last norm, and
the last attention. Each file goes through the repositories' own loaders first. Its numbers are multiples of 1/128, which
float32 and bfloat16 hold exactly and which need little room. Of the repositories these files are used, at the commits
143bd26 (models_vit), 2ecbc73 (models_mixer, checkpoint), 5f95305 (vit) and fa95435 (mlp_mixer); google_cases.json
records what was in them.
"""

import hashlib
import json
import sys
import types
from pathlib import Path

import einops
import flax
import flax.training.checkpoints
import jax
import ml_dtypes
import numpy as np
import scipy
import scipy.ndimage
from flax.linen import attention as flax_attention

HERE = Path(__file__).parent
SOURCES = [Path(folder) for folder in sys.argv[1:3]]
FILES = {
    "vision_transformer": ["vit_jax/models_vit.py", "vit_jax/models_mixer.py", "vit_jax/checkpoint.py"],
    "big_vision": ["big_vision/models/vit.py", "big_vision/models/mlp_mixer.py"],
}


def stand_in(name: str, **contents: object) -> None:
    """A module in the place of one that the models' code imports and does not need here."""
    module = sys.modules[name] = types.ModuleType(name)
    vars(module).update(contents)


def load_params(path: str) -> dict:
    """big_vision's way to the weights in a file: below `params`, or `opt/target`, or all of it; then below a key."""
    path, _, key = path.partition(":")
    tree = unflat(dict(np.load(path)))
    tree = tree.get("params") or tree.get("opt", {}).get("target") or tree
    tree = tree[key] if key else tree
    return jax.tree.map(
        lambda a: np.asarray(a.view(ml_dtypes.bfloat16) if a.dtype.kind == "V" else a, np.float32), tree
    )


stand_in("tensorflow")
stand_in("tensorflow.io", gfile=types.SimpleNamespace(GFile=open))
stand_in("pandas")
stand_in("tqdm")
sys.path[:0] = [str(folder) for folder in SOURCES]
import big_vision  # noqa: E402

stand_in("big_vision.utils", load_params=load_params)
stand_in("big_vision.models.common", merge_params=lambda loaded, inited, dont_load: loaded)
big_vision.utils = sys.modules["big_vision.utils"]

import big_vision.models  # noqa: E402

big_vision.models.common = sys.modules["big_vision.models.common"]
from big_vision.models import mlp_mixer as bv_mixer  # noqa: E402
from big_vision.models import vit as bv_vit  # noqa: E402
from vit_jax import checkpoint, models_mixer, models_vit  # noqa: E402

del sys.modules["tensorflow"]  # einops would ask it for its types

DIM, DEPTH, HEADS, HIDDEN, PATCH, CLASSES = 16, 2, 2, 20, 4, 5
OTHER = 20  # the other image size; the first is 12, or 3 × 3 patches


# --- trees and names --------------------------------------------------------------------------------------------------


def flat(tree: dict) -> dict[str, np.ndarray]:
    return {"/".join(path): np.asarray(a) for path, a in flax.traverse_util.flatten_dict(tree).items()}


def unflat(arrays: dict) -> dict:
    return flax.traverse_util.unflatten_dict({tuple(name.split("/")): a for name, a in arrays.items()})


def randomised(tree: dict, seed: int) -> dict[str, np.ndarray]:
    """Every parameter to random values, so that none of them can be left out unseen, and each kernel of a fitting size."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, a in sorted(flat(tree).items()):
        inputs = a.shape[:-2] if "query" in name or "key" in name or "value" in name else a.shape[:-1]
        std = np.prod(inputs[-3:]) ** -0.5 if name.endswith("kernel") else 0.3
        values = rng.normal(float(name.endswith("scale")), std, a.shape)
        arrays[name] = (np.round(values * 128).clip(-255, 255) / 128).astype(np.float32)
    return arrays


def renamed(arrays: dict[str, np.ndarray], *pairs: tuple[str, str]) -> dict[str, np.ndarray]:
    result = {}
    for name, a in arrays.items():
        for old, new in pairs:
            name = name.replace(old, new)
        result[name] = a
    return result


RELEASED = [
    ("MultiHeadDotProductAttention_0", "MultiHeadDotProductAttention_1"),
    ("LayerNorm_1", "LayerNorm_2"),
    ("MlpBlock_0", "MlpBlock_3"),
]


def same(first: dict, second: dict) -> None:
    """Two trees hold the same arrays under the same names."""
    first, second = flat(first), flat(second)
    assert first.keys() == second.keys(), first.keys() ^ second.keys()
    for name in first:
        assert first[name].shape == second[name].shape and np.array_equal(first[name], second[name]), name


# --- what the source computes -----------------------------------------------------------------------------------------


class Watch:
    """Keeps every attention map that Flax computes."""

    def __enter__(self) -> list:
        self.before, maps = flax_attention.dot_product_attention_weights, []

        def watched(*args, **kwargs):
            maps.append(self.before(*args, **kwargs))
            return maps[-1]

        flax_attention.dot_product_attention_weights = watched
        return maps

    def __exit__(self, *_: object) -> None:
        flax_attention.dot_product_attention_weights = self.before


def run(model, params: dict, images: np.ndarray, final: tuple[str, ...]) -> dict[str, np.ndarray]:
    with Watch() as maps:
        out, state = model.apply({"params": params}, images, train=False, capture_intermediates=True)
    tokens = state["intermediates"]
    for name in final:
        tokens = tokens[name]
    tokens = tokens["__call__"][0]
    result = {
        "logits": out[0] if isinstance(out, tuple) else out,
        "final": tokens[0] if isinstance(tokens, tuple) else tokens,
    }
    if maps:
        result["attention"] = maps[DEPTH - 1]  # after those of the blocks there may be one of the pooling
        result |= {"pooling": maps[DEPTH]} if len(maps) > DEPTH else {}
    return {name: np.asarray(a, np.float32) for name, a in result.items()}


def some_images(size: tuple[int, int], seed: int, count: int) -> np.ndarray:
    """Multiples of 1/32 in [−1, 1], kept as whole numbers."""
    return np.random.default_rng(seed).integers(-32, 33, (count, *size, 3)).astype(np.int8)


CASES = {}


def case(
    name: str, model, file: dict, params: dict, final=("Transformer",), size=(12, 12), other=None, **about
) -> None:
    """Write one checkpoint and what becomes of it; `other` gives the parameters for images of the other size."""
    expected = {}
    for i, (shape, weights) in enumerate([(size, params)] + ([((OTHER, OTHER), other)] if other else [])):
        images = some_images(shape, seed=10 * len(CASES) + i, count=2 - i)
        found = run(model, weights, images.astype(np.float32) / 32, final)
        expected |= {f"{i}.{key}": a for key, a in {"images": images, **found}.items()}
    np.savez_compressed(HERE / f"google_{name}.npz", **file)
    np.savez_compressed(HERE / f"google_{name}_expected.npz", **expected)
    CASES[name] = {**about, "images": [list(size)] + ([[OTHER, OTHER]] if other else [])}
    print(name, {key: a.shape for key, a in expected.items()})


def stored(arrays: dict) -> dict:
    """What comes back from a file with these arrays, by the loader that the ViT paper's code has."""
    path = HERE / "google_try.npz"
    np.savez(path, **arrays)
    try:
        return checkpoint.load(str(path)) if "Transformer/encoder_norm/bias" in arrays else load_params(str(path))
    finally:
        path.unlink()


# --- the ViT paper's code ---------------------------------------------------------------------------------------------


def paper_vit(name: str, seed: int, names: list, prefix: str = "", **options) -> None:
    transformer = {"num_layers": DEPTH, "mlp_dim": HIDDEN, "num_heads": options.pop("heads", HEADS)}
    patches = types.SimpleNamespace(size=(PATCH, PATCH))
    model = models_vit.VisionTransformer(CLASSES, patches, transformer, DIM, **options)
    tree = model.init(jax.random.key(0), np.zeros((1, 12, 12, 3)), train=False)["params"]
    arrays = randomised(tree, seed)
    params = unflat(arrays)
    file = renamed(arrays, *names)
    same(stored(file), params)
    token = options.get("classifier", "token") == "token"
    resized = dict(arrays)
    key = "Transformer/posembed_input/pos_embedding"
    resized[key] = np.asarray(checkpoint.interpolate_posembed(arrays[key], (OTHER // PATCH) ** 2 + token, token))
    file = {prefix + key: a for key, a in file.items()}
    if prefix.startswith("opt/"):
        file["opt/state/step"] = np.array(7)
    case(name, model, file, params, other=unflat(resized), source="vision_transformer")


paper_vit("token", 1, RELEASED)
paper_vit("pre_logits", 2, [], prefix="opt/target/", representation_size=12)
paper_vit("gap", 3, RELEASED, prefix="params/", classifier="gap", heads=4)


# --- big_vision -------------------------------------------------------------------------------------------------------


def big_vision_vit(name: str, seed: int, write, classes: int | None = CLASSES, resize: bool = True, **options) -> None:
    """`write(arrays)` gives the arrays of the file and where big_vision is told to look in it."""
    model = bv_vit.Model(
        classes, patch_size=(PATCH, PATCH), width=DIM, depth=DEPTH, mlp_dim=HIDDEN, num_heads=HEADS, **options
    )
    tree = model.init(jax.random.key(0), np.zeros((1, 12, 12, 3)))["params"]
    file, key = write(randomised(tree, seed))
    path = HERE / "google_try.npz"
    np.savez(path, **file)
    try:
        params = bv_vit.load(None, str(path) + key, {})
    finally:
        path.unlink()
    assert flat(params).keys() == flat(tree).keys(), flat(params).keys() ^ flat(tree).keys()
    other = params
    if "pos_embedding" in params:
        like = np.zeros((1, (OTHER // PATCH) ** 2, DIM))
        other = {**params, "pos_embedding": bv_vit.resample_posemb(params["pos_embedding"], like)}
    case(name, model, file, params, other=other, source="big_vision", positions=options.get("posemb", "learn"))


def two_towers(arrays: dict) -> tuple[dict, str]:
    """SigLIP's files: image and text model and two numbers; some arrays in bfloat16, which NumPy writes as 2 bytes."""
    inlined = renamed(arrays, ("MAPHead_0/", ""))  # as early files had attention pooling; the test renames it likewise
    same(bv_vit.fix_old_checkpoints(unflat(inlined)), unflat(arrays))
    half = {n: a.astype(ml_dtypes.bfloat16) if "MlpBlock" in n or "embedding" in n else a for n, a in arrays.items()}
    text = {"params/txt/head/bias": np.zeros(3, np.float32), "params/t": np.ones(1), "params/b": np.ones(1)}
    return {f"params/img/{name}": a for name, a in half.items()} | text, ":img"


def one_stack(arrays: dict) -> tuple[dict, str]:
    """The blocks as one, as nn.scan has them."""
    return {f"params/{name}": a for name, a in flat(bv_vit.pyloop_to_scan(unflat(arrays))).items()}, ""


def before_2022(arrays: dict) -> tuple[dict, str]:
    """Positions inside the Transformer, with one for the class token."""
    positions = arrays.pop("pos_embedding")
    first = np.random.default_rng(0).integers(-40, 40, (1, 1, DIM)).astype(np.float32) / 128
    return arrays | {"Transformer/pos_embedding": np.concatenate([first, positions], axis=1)}, ""


big_vision_vit("map", 4, two_towers, classes=None, pool_type="map")
big_vision_vit("tok_scan", 5, one_stack, pool_type="tok")
big_vision_vit("sincos", 6, lambda arrays: (arrays, ""), pool_type="gap", posemb="sincos2d", rep_size=True)
big_vision_vit("before_2022", 7, before_2022, pool_type="tok")


# --- MLP-Mixer --------------------------------------------------------------------------------------------------------

SIZES = {"num_blocks": DEPTH, "hidden_dim": DIM, "tokens_mlp_dim": 10, "channels_mlp_dim": HIDDEN}


def early_names(arrays: dict) -> dict:
    """big_vision's first names; its loader takes axes of length 1 out, so some are put in."""
    pairs = [
        ("MixerBlock_", "Mixer/encoderblock_"),
        ("pre_head_layer_norm", "Mixer/encoder_norm"),
        ("stem", "embedding"),
    ]
    pairs += [(f"{kind}_mixing/", f"{kind}_mixing_phase_0/") for kind in ("token", "channel")]
    pairs += [(f"phase_0/Dense_{i}/{kind}", f"phase_0/{kind}{i + 1}") for i in (0, 1) for kind in ("kernel", "bias")]
    names = renamed(arrays, *pairs)
    return {name: a[None, :, None] if "/bias" in name and "_phase_0" in name else a for name, a in names.items()}


def mixer(name: str, seed: int, size: tuple[int, int], early: bool) -> None:
    patches = types.SimpleNamespace(size=(PATCH, PATCH))
    model = models_mixer.MlpMixer(patches=patches, num_classes=CLASSES, **SIZES)
    tree = model.init(jax.random.key(0), np.zeros((1, *size, 3)), train=False)["params"]
    arrays = randomised(tree, seed)
    file = early_names(arrays) if early else arrays
    path = HERE / "google_try.npz"
    np.savez(path, **file)
    try:
        params = bv_mixer.load(None, str(path), None)
    finally:
        path.unlink()
    same(params, unflat(arrays))
    again = bv_mixer.Model(CLASSES, patch_size=(PATCH, PATCH), **SIZES)
    images = some_images(size, 99, 1).astype(np.float32) / 32
    final = ("pre_head_layer_norm",)
    for key, a in run(again, params, images, final).items():  # the same model in both repositories
        np.testing.assert_allclose(run(model, params, images, final)[key], a, rtol=0, atol=1e-6)
    case(name, model, file, params, final=final, size=size, source="big_vision" if early else "vision_transformer")


mixer("mixer", 8, (12, 12), early=False)
mixer("mixer_early", 9, (8, 12), early=True)


# --- what was used ----------------------------------------------------------------------------------------------------

versions = {"jax": jax.__version__, "flax": flax.__version__, "numpy": np.__version__, "scipy": scipy.__version__}
versions |= {"einops": einops.__version__, "ml_dtypes": ml_dtypes.__version__, "python": sys.version.split()[0]}
hashes = {
    f"{repository}/{name}": hashlib.sha256((folder / name).read_bytes()).hexdigest()
    for folder, (repository, names) in zip(SOURCES, FILES.items(), strict=True)
    for name in names
}
about = {"versions": versions, "sha256": hashes, "cases": CASES}
(HERE / "google_cases.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

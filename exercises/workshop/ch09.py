"""Chapter 09 behind the exercises."""

import minivit as mv


def count_parameters(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """How many numbers a Vision Transformer learns.

    Square images and patches; a class token; a learned position for each patch and for the class token; `depth` pre-norm
    blocks, packed qkv of shape (D, 3D), an MLP of hidden width D · mlp_ratio; a last LayerNorm; a Linear head. Every Linear has
    a bias, every LayerNorm a weight and a bias.
    """
    tokens = 1 + (image_size // patch_size) ** 2
    hidden = dim * mlp_ratio
    embedding = patch_size * patch_size * in_channels * dim + dim
    attention = dim * 3 * dim + 3 * dim + dim * dim + dim
    mlp = dim * hidden + hidden + hidden * dim + dim
    block = 2 * dim + attention + 2 * dim + mlp
    return embedding + dim + tokens * dim + depth * block + 2 * dim + dim * num_classes + num_classes


def inputs_count_parameters(rng):
    """The paper's three sizes among small ones in which no two axes are equal."""
    return [
        (8, 2, 1, 10, 48, 3, 2),
        (12, 3, 2, 5, 7, 2, 3),
        (15, 5, 3, 4, 6, 0, 4),
        (224, 16, 3, 1000, 768, 12, 4),
        (224, 16, 3, 1000, 1024, 24, 4),
        (224, 14, 3, 1000, 1280, 32, 4),
    ]


def vit_forward(images, weights, patch_size, num_heads):
    """The logits of a Vision Transformer, put together out of its weights: (B, H, W, C) -> (B, K).

    `weights` is a dict of arrays with the names and shapes of `mv.ViT(…).state_dict()`: cls_token (1, 1, D), pos_embed
    (1, 1 + N, D), patch_embed.proj.weight (P·P·C, D), blocks.0.norm1.weight, …, norm.weight, head.weight (D, K); as many
    blocks as there are names for. Use what the book built: patchify, layer_norm, self_attention or your own, gelu.
    """

    def linear(x, name):
        return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def norm(x, name):
        return mv.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = linear(mv.Tensor(mv.patchify(images, patch_size)), "patch_embed.proj")  # (B, N, D)
    class_token = mv.broadcast_to(weights["cls_token"], shape=(len(images), 1, x.shape[2]))
    x = mv.concatenate([class_token, x], axis=1) + weights["pos_embed"]  # (B, T, D)
    depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    for block in (f"blocks.{i}" for i in range(depth)):
        qkv = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
        x = x + linear(mv.composed.self_attention(qkv, num_heads), f"{block}.attn.proj")
        x = x + linear(mv.gelu(linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")), f"{block}.mlp.fc2")
    return linear(norm(x, "norm")[:, 0], "head")


def inputs_vit_forward(rng):
    """All weights drawn at random and large, biases, norms and head included, so that none can be forgotten unseen."""

    def drawn(shape):
        return rng.standard_normal(shape) / (shape[0] ** 0.5 if len(shape) == 2 else 1)

    cases = []
    for b, size, patch, channels, classes, dim, depth, heads in ((5, 4, 2, 1, 3, 6, 1, 2), (7, 6, 2, 3, 4, 12, 2, 3)):
        model = mv.ViT(size, patch, channels, classes, dim, depth, heads, mlp_ratio=2)
        weights = {name: drawn(w.shape) for name, w in model.state_dict().items()}
        cases.append((rng.standard_normal((b, size, size, channels)), weights, patch, heads))
    return cases

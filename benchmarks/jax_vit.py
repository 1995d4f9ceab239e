"""The same ViT in JAX, one jitted training step: the second peer. Parameters are minivit's own arrays, by name."""

import jax
import jax.numpy as jnp


def layer_norm(p, name, x):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-6) * p[f"{name}.weight"] + p[f"{name}.bias"]


def linear(p, name, x):
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def forward(p, images, patch_size, depth, num_heads):
    """Images (B, H, W, C) -> logits (B, K)."""
    b, h, w, c = images.shape
    x = images.reshape(b, h // patch_size, patch_size, w // patch_size, patch_size, c).transpose(0, 1, 3, 2, 4, 5)
    x = linear(p, "patch_embed.proj", x.reshape(b, -1, patch_size * patch_size * c))
    dim = x.shape[-1]
    x = jnp.concatenate([jnp.broadcast_to(p["cls_token"], (b, 1, dim)), x], axis=1) + p["pos_embed"]
    for i in range(depth):
        y = linear(p, f"blocks.{i}.attn.qkv", layer_norm(p, f"blocks.{i}.norm1", x))
        q, k, v = jnp.moveaxis(y.reshape(b, -1, 3, num_heads, dim // num_heads), (2, 3), (0, 2))  # (B, heads, T, d)
        a = jax.nn.softmax(q @ k.swapaxes(-1, -2) * (dim // num_heads) ** -0.5)
        x = x + linear(p, f"blocks.{i}.attn.proj", (a @ v).swapaxes(1, 2).reshape(b, -1, dim))
        y = linear(p, f"blocks.{i}.mlp.fc1", layer_norm(p, f"blocks.{i}.norm2", x))
        x = x + linear(p, f"blocks.{i}.mlp.fc2", jax.nn.gelu(y, approximate=False))
    return linear(p, "head", layer_norm(p, "norm", x)[:, 0])


def make_step(patch_size, depth, num_heads, lr, decay, betas=(0.9, 0.999), eps=1e-8):
    """A jitted `step(p, m, v, t, images, labels) -> (loss, p, m, v)`: forward, backward, AdamW."""

    def loss_of(p, images, labels):
        logits = jax.nn.log_softmax(forward(p, images, patch_size, depth, num_heads))
        return -jnp.take_along_axis(logits, labels[:, None], axis=1).mean()

    def step(p, m, v, t, images, labels):
        loss, g = jax.value_and_grad(loss_of)(p, images, labels)
        m = {n: betas[0] * m[n] + (1 - betas[0]) * g[n] for n in p}
        v = {n: betas[1] * v[n] + (1 - betas[1]) * g[n] ** 2 for n in p}
        new = {}
        for n, x in p.items():
            x = x * (1 - lr * decay) if x.ndim in (2, 4) else x
            new[n] = x - lr * (m[n] / (1 - betas[0] ** t)) / (jnp.sqrt(v[n] / (1 - betas[1] ** t)) + eps)
        return loss, new, m, v

    return jax.jit(step, donate_argnums=(0, 1, 2))

"""Exercises of chapter 09. Fill them in, then: python -m exercises check count_parameters

★ count_parameters, 10 minutes: Where the numbers are
★★★ vit_forward, 30 minutes: The whole forward pass, out of weights

Made from manifest.toml by `python -m exercises skeletons`.
"""

import numpy as np

import minivit as mv


def count_parameters(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """How many numbers a Vision Transformer learns.

    Square images and patches; a class token; a learned position for each patch and for the class token; `depth` pre-norm
    blocks, packed qkv of shape (D, 3D), an MLP of hidden width D · mlp_ratio; a last LayerNorm; a Linear head. Every Linear has
    a bias, every LayerNorm a weight and a bias.
    """
    raise NotImplementedError


def vit_forward(images, weights, patch_size, num_heads):
    """The logits of a Vision Transformer, put together out of its weights: (B, H, W, C) -> (B, K).

    `weights` is a dict of arrays with the names and shapes of `mv.ViT(…).state_dict()`: cls_token (1, 1, D), pos_embed
    (1, 1 + N, D), patch_embed.proj.weight (P·P·C, D), blocks.0.norm1.weight, …, norm.weight, head.weight (D, K); as many
    blocks as there are names for. Use what the book built: patchify, layer_norm, self_attention or your own, gelu.
    """
    raise NotImplementedError

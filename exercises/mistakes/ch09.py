"""The usual mistakes in the exercises of chapter 09."""

import minivit as mv
from exercises.mistakes import mistake
from exercises.workshop import ch09

# ---- count_parameters: what is missing tells what was forgotten, as far as a sum can tell


def numbers(image_size, patch_size, in_channels, num_classes, dim, depth, mlp_ratio):
    """How many numbers each part of the model has, all blocks together."""
    hidden = dim * mlp_ratio
    outside = {
        "patch matrix": patch_size * patch_size * in_channels * dim,
        "patch bias": dim,
        "class token": dim,
        "class position": dim,
        "patch positions": (image_size // patch_size) ** 2 * dim,
        "last norm": 2 * dim,
        "head matrix": dim * num_classes,
        "head bias": num_classes,
    }
    block = {
        "norm weights": 2 * dim,
        "norm biases": 2 * dim,
        "qkv matrix": 3 * dim * dim,
        "qkv bias": 3 * dim,
        "projection matrix": dim * dim,
        "projection bias": dim,
        "first matrix": dim * hidden,
        "first bias": hidden,
        "second matrix": hidden * dim,
        "second bias": dim,
    }
    return outside | {name: depth * count for name, count in block.items()}


def without(*forgotten):
    """The count with these parts forgotten."""
    return lambda *sizes: sum(count for name, count in numbers(*sizes).items() if name not in forgotten)


def said(words):
    """These words, with how much is missing besides the arguments."""
    return lambda found, expected, **sizes: words.format(missing=f"{abs(expected - found):,}", **sizes)


mistake(
    "count_parameters",
    said(
        "You are {missing} short: one vector of {dim}, however deep the model. Beside the table of the patches' "
        "positions five such vectors stand outside the blocks: which have you counted?"
    ),
    "one_vector_outside_the_blocks",
)(without("class position"))

mistake(
    "count_parameters",
    said(
        "You are {missing} short: two vectors of {dim}, however deep the model. A LayerNorm has two, and a token "
        "beyond the patches brings two: is each of them counted, outside the blocks as well?"
    ),
    "two_vectors_outside_the_blocks",
)(without("last norm"))

mistake(
    "count_parameters",
    said(
        "You are {missing} short: 3 · {dim} in each of the {depth} blocks, as many numbers as one Linear of a block "
        "adds to its product. Which Linear is that wide, and have you counted all that it learns?"
    ),
    "no_qkv_bias",
)(without("qkv bias"))

mistake(
    "count_parameters",
    said(
        "You are {missing} short: two vectors of {dim} in each of the {depth} blocks. Go through a block line by line, "
        "every norm and every bias with its width: where do 2 · {dim} numbers get lost?"
    ),
    "two_vectors_in_each_block",
)(without("norm biases"))

mistake(
    "count_parameters",
    said(
        "You are {missing} short: one vector of {dim} in each of the {depth} blocks. Go through a block line by line "
        "and count its vectors, those of the norms and the biases: which is not in your sum?"
    ),
    "one_vector_in_each_block",
)(without("projection bias"))

mistake(
    "count_parameters",
    said(
        "You are {missing} short: {dim} · {mlp_ratio} in each of the {depth} blocks, a vector of the MLP's hidden "
        "width. What does the first Linear of the MLP add to its product?"
    ),
    "no_bias_of_the_hidden_layer",
)(without("first bias"))

mistake(
    "count_parameters",
    said(
        "You are {missing} short: all the norms. Two in each of the {depth} blocks and one after them: they learn "
        "something too, how many numbers each?"
    ),
    "no_norms",
)(without("norm weights", "norm biases", "last norm"))

mistake(
    "count_parameters",
    said(
        "You are {missing} short: one vector of {dim} for each norm, 2 · {depth} + 1 of them. After dividing by the "
        "deviation a LayerNorm does two more things: which?"
    ),
    "norms_with_weight_alone",
)(lambda *sizes: without("norm biases")(*sizes) - sizes[4])

mistake(
    "count_parameters",
    said(
        "You are {missing} short: {num_classes} numbers, one for each class. What does the head do after it has "
        "multiplied?"
    ),
    "no_head_bias",
)(without("head bias"))

mistake(
    "count_parameters",
    said(
        "You are {missing} short: it is all the biases of the Linears. How many Linears are there in a block, and "
        "where outside?"
    ),
    "no_biases",
)(without("patch bias", "qkv bias", "projection bias", "first bias", "second bias", "head bias"))

mistake(
    "count_parameters",
    said(
        "You are {missing} short: {dim} · {dim} + {dim} in each of the {depth} blocks. The heads' findings lie side by "
        "side: what mixes them before they are added to the running sum?"
    ),
    "no_projection_of_the_heads",
)(without("projection matrix", "projection bias"))

mistake(
    "count_parameters",
    said(
        "You are {missing} short, and that is two matrices {dim} by {dim} with their biases in each of the {depth} "
        "blocks: you count one where q, k and v need three. How wide is a packed row?"
    ),
    "one_matrix_for_q_k_v",
)(lambda *sizes: without()(*sizes) - 2 * (sizes[4] + 1) * sizes[4] * sizes[5])

mistake(
    "count_parameters",
    said(
        "You are {missing} short: the whole table of positions. They are learned here, not computed from sines: how "
        "many rows has the table?"
    ),
    "no_positions",
)(without("class position", "patch positions"))

mistake(
    "count_parameters",
    lambda found, expected, image_size, patch_size, **sizes: (
        f"Your table of positions has {1 + image_size // patch_size} rows, as if the patches stood in one line. "
        f"{image_size // patch_size} of them make one side of the image: how many are there?"
    ),
    "one_row_of_patches",
)(lambda *sizes: ch09.count_parameters(*sizes) - ((sizes[0] // sizes[1]) ** 2 - sizes[0] // sizes[1]) * sizes[4])

mistake(
    "count_parameters",
    said(
        "Right for grey images; here you are {missing} short, as if there were one channel. A patch of {patch_size} by "
        "{patch_size} pixels with {in_channels} channels: how many numbers are that?"
    ),
    "grey_images_alone",
)(lambda size, patch, channels, *rest: ch09.count_parameters(size, patch, 1, *rest))

mistake(
    "count_parameters",
    said(
        "You count one block, and the model has {depth}. They look alike, but each has numbers of its own: what must "
        "be multiplied, and what not?"
    ),
    "one_block",
)(lambda *sizes: ch09.count_parameters(*sizes[:5], 1, sizes[6]))

mistake(
    "count_parameters",
    said(
        "You are {missing} short: one of the two matrices of the MLP in each block. One leads from {dim} to the hidden "
        "width; which one leads back?"
    ),
    "half_an_mlp",
)(without("second matrix"))


# ---- vit_forward


def vit(
    order="pre", last_norm=True, read="class", activation=mv.gelu, positions="all", class_last=False, skips=True, heads=None,
    blocks=None, projection=True, second_norm="norm2", end=lambda logits: logits, pixels=lambda patches, size: patches,
):  # fmt: skip
    """The forward pass with a part left out or elsewhere."""

    def vit_forward(images, weights, patch_size, num_heads):
        def linear(x, name):
            return x @ weights[f"{name}.weight"] + weights[f"{name}.bias"]

        def norm(x, name):
            return mv.layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

        def attention(x, b):
            found = mv.composed.self_attention(linear(x, f"{b}.attn.qkv"), heads or num_heads)
            return linear(found, f"{b}.attn.proj") if projection else found

        def mlp(x, b):
            return linear(activation(linear(x, f"{b}.mlp.fc1")), f"{b}.mlp.fc2")

        patches = pixels(mv.patchify(images, patch_size), patch_size)
        x = linear(mv.Tensor(patches), "patch_embed.proj")
        table = weights["pos_embed"] if positions == "all" else weights["pos_embed"] * 0
        if positions == "patches":
            x = x + weights["pos_embed"][:, 1:]
        seat = mv.broadcast_to(weights["cls_token"], shape=(len(images), 1, x.shape[2]))
        x = mv.concatenate([x, seat] if class_last else [seat, x], axis=1) + table
        depth = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
        for b in [f"blocks.{i}" for i in range(depth)][:blocks]:
            if order == "pre":
                x = x * skips + attention(norm(x, f"{b}.norm1"), b)
                x = x * skips + mlp(norm(x, f"{b}.{second_norm}"), b)
            else:
                x = norm(x + attention(x, b), f"{b}.norm1")
                x = norm(x + mlp(x, b), f"{b}.norm2")
        x = norm(x, "norm") if last_norm else x
        chosen = {"class": lambda: x[:, 0], "last": lambda: x[:, -1], "mean": lambda: x.mean(axis=1)}[read]()
        return end(linear(chosen, "head"))

    return vit_forward


def channels_first(patches, size):
    """The pixels of each patch in the order of PyTorch, all of one channel together."""
    b, n, width = patches.shape
    return patches.reshape(b, n, size * size, -1).swapaxes(2, 3).reshape(b, n, width)


mistake(
    "vit_forward",
    "Each block of yours ends in a norm: you norm the sums, as the first Transformer did. The ViT norms what a part "
    "reads and leaves the running sum alone: where do norm1 and norm2 go then?",
    "post_norm",
)(vit(order="post"))

mistake(
    "vit_forward",
    'The blocks are right. `weights` holds a "norm.weight" that you have not used: between what and what does the running sum '
    "get its last norm?",
    "no_last_norm",
)(vit(last_norm=False))

mistake(
    "vit_forward",
    lambda found, expected, images, weights, **rest: (
        f"You average all {weights['pos_embed'].shape[1]} tokens for the head. Some ViTs do that, with no class token; "
        "this one has given a token to the purpose: which?"
    ),
    "mean_of_the_tokens",
)(vit(read="mean"))

mistake(
    "vit_forward",
    "Your head reads the last token, a patch in the bottom right corner. One token belongs to no patch and collects "
    "from all: at which place did you put it?",
    "reads_the_last_token",
)(vit(read="last"))

mistake(
    "vit_forward",
    "All fits, but for the bend in the MLP: yours cuts at 0, as ReLU does. Which function between the two Linears lets "
    "a little of the negative through?",
    "relu",
)(vit(activation=mv.relu))

mistake(
    "vit_forward",
    lambda found, expected, **rest: (
        f"You are close: no logit is further off than {abs(found - expected).max():.1g}. That is the gap between two "
        "formulas for GELU: is yours the one with tanh, or the one with the normal distribution?"
    ),
    "gelu_by_tanh",
)(vit(activation=lambda x: mv.gelu(x, approximate=True)))

mistake(
    "vit_forward",
    "Your patches do not know where they were: shuffled, they would give the same logits. Which of the weights has a "
    "row for each token, and is still unused?",
    "no_positions",
)(vit(positions="none"))

mistake(
    "vit_forward",
    lambda found, expected, images, weights, **rest: (
        f"Every patch has its position, the class token has none. pos_embed has {weights['pos_embed'].shape[1]} rows "
        f"for {weights['pos_embed'].shape[1] - 1} patches: whose is row 0, and when is the table added?"
    ),
    "positions_for_patches_alone",
)(vit(positions="patches"))

mistake(
    "vit_forward",
    "Your class token stands at the end, so every token gets the position of its neighbour and the head reads a patch. "
    "Row 0 of pos_embed is the class token's: where should it stand?",
    "class_token_last",
)(vit(class_last=True))

mistake(
    "vit_forward",
    "Each part of yours replaces the running sum where it should add to it. If attention and MLP found nothing, what "
    "would be left of an image after a block?",
    "no_skips",
)(vit(skips=False))

mistake(
    "vit_forward",
    lambda found, expected, images, weights, patch_size, num_heads: (
        f"You have one head of width {weights['head.weight'].shape[0]}, whatever num_heads says; here it says "
        f"{num_heads}. No weight has another shape for it, so nothing complains: where does the number of heads come "
        "in?"
    ),
    "one_head",
)(vit(heads=1))

mistake(
    "vit_forward",
    lambda found, expected, images, weights, **rest: (
        "With one block all is right; here are weights for "
        f"{len({name.split('.')[1] for name in weights if name.startswith('blocks.')})}, and yours runs through the "
        "first alone. What tells you how many there are?"
    ),
    "first_block_alone",
)(vit(blocks=1))

mistake(
    "vit_forward",
    'The findings of the heads go into the running sum as they are. Each block has an "attn.proj" that nobody calls: what do '
    "findings that lie side by side still need?",
    "no_projection_of_the_heads",
)(vit(projection=False))

mistake(
    "vit_forward",
    "Both parts of a block read norm1. They look alike in the code, but each norm has learned its own weight and bias: "
    "which names are left over in `weights`?",
    "one_norm_for_both",
)(vit(second_norm="norm1"))

mistake(
    "vit_forward",
    "Your rows sum to 1: these are probabilities. The logits are asked for, which the loss turns into probabilities by "
    "itself: which step is one too many?",
    "softmax_at_the_end",
)(vit(end=mv.softmax))

mistake(
    "vit_forward",
    lambda found, expected, images, **rest: (
        f"Right for grey images; here a pixel has {images.shape[3]} numbers, and yours come channel by channel, as in "
        "PyTorch. In which order does patchify lay out a patch, and the rows of patch_embed.proj.weight?"
    ),
    "channels_first",
)(vit(pixels=channels_first))

# ---
# jupyter:
#   minivit:
#     title: The ViT
#     question: Does it fit together?
#     here: [class token, logits]
#     minutes: 45
#     exercises: [count_parameters, vit_forward]
#     builds: [ViT, nn.init.blank]
# ---

# %% [markdown]
# Every part is on the table. Chapter 05 made tokens of patches, told each its place and kept an empty seat. Chapters 06 to
# 08 let the tokens talk and think, in blocks. Chapter 04 reads ten logits and says what they cost. Putting them together takes twenty lines. The
# rest of this chapter is about a harder thing: how do we know that they fit?
#
# The paper (Dosovitskiy and others, 2021) needs four equations. Let $x_p^1, \dots, x_p^N$ be the patches of an image and $z_l$ its tokens after $l$ of $L$
# blocks:
#
# $$z_0 = [x_\text{class};\; x_p^1 E;\; \dots;\; x_p^N E] + E_\text{pos} \qquad (1)$$
#
# $$z'_l = \operatorname{MSA}(\operatorname{LN}(z_{l-1})) + z_{l-1} \qquad (2)$$
#
# $$z_l = \operatorname{MLP}(\operatorname{LN}(z'_l)) + z'_l \qquad (3)$$
#
# $$y = \operatorname{LN}(z_L^0) \qquad (4)$$
#
# MSA is attention with several heads, LN is LayerNorm, semicolons put tokens under one another, and $z_L^0$ is the first row of $z_L$, the class token. Cover the
# right-hand columns and say where each letter comes from:
#
# | in the paper | in the code | chapter |
# |---|---|---|
# | $x_p$, $E$ | `patch_embed` | 05 |
# | $x_\text{class}$, $E_\text{pos}$ | `cls_token`, `pos_embed` | 05 |
# | MSA | `blocks[l].attn` | 06, 07 |
# | MLP, LN | `blocks[l].mlp`, `norm1`, `norm2` | 08 |
# | $z + \dots$ | the residual connections of a block | 08 |
# | LN in (4) | `norm` | 08 |
# | what reads $y$ | `head` | 04 |
#
# The names are minivit's, so that weights can travel between its model and ours.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minivit as mv


class MyViT(mv.nn.Module):
    def __init__(self, size, P, C, K, D, L, heads, ratio):
        self.patch_embed, T = mv.nn.PatchEmbed(P, C, D), 1 + (size // P) ** 2  # E
        self.cls_token = mv.nn.Parameter(np.zeros((1, 1, D)))  # x_class
        self.pos_embed = mv.nn.Parameter(np.zeros((1, T, D)))  # E_pos
        self.blocks = [mv.nn.Block(D, heads, ratio) for _ in range(L)]
        self.norm, self.head = mv.nn.LayerNorm(D), mv.nn.Linear(D, K)

    def embed(self, images):  # (B, H, W, C) -> (B, T, D)
        x = self.patch_embed(images)  # (B, N, D)
        seat = mv.broadcast_to(self.cls_token, shape=(len(x.data), 1, x.shape[2]))
        return mv.concatenate([seat, x], axis=1) + self.pos_embed  # (1)


# %% [markdown]
# That was equation 1. The seat gets a position like any patch, so there are $T = N + 1$ tokens and as many positions. What the equations do not mention: every
# Linear has a bias, and somebody must still read the answer from $y$. In the paper's second phase, when a trained model is turned to a new task, that is a single
# Linear which starts at 0, and minivit has one like it from the beginning. The other three equations are one loop and one line:


# %%
def forward(model, images):  # (B, H, W, C) -> (B, K)
    z = model.embed(images)
    for block in model.blocks:
        z = block(z)  # (2) and (3): (B, T, D) -> (B, T, D)
    return model.head(model.norm(z)[:, 0])  # (4), and the logits


MyViT.forward = forward

# %% [markdown]
# That is a Vision Transformer. Its last LayerNorm is there because the running sum has no fixed size. BERT, the language model that lent it the class token, has no such line: there each block
# norms the sum itself, after each addition, and leaves it at size 1. That is chapter 08's post-norm, and it is the one real difference between the two blocks.
#
# minivit's is [`mv.ViT`](../minivit/models/vit.py#ViT), the same with options, on one page. Do the two agree?
#
# There is a trap. `mv.ViT` starts with its head at 0 and says ten zeros whatever it sees; so would any wrong model with such a head. Before we
# compare, every parameter gets a random value.

# %% tags=["check"]
sizes = {"dim": 48, "depth": 3, "num_heads": 4, "mlp_ratio": 2}
theirs = mv.ViT(8, 2, 1, 10, **sizes).astype(np.float64)  # size, P, C, K
mine = MyViT(8, 2, 1, 10, 48, 3, 4, 2).astype(np.float64)
rng = np.random.default_rng(0)
shapes = {name: p.shape for name, p in theirs.named_parameters()}
weights = {name: 0.3 * rng.standard_normal(s) for name, s in shapes.items()}
theirs.load_state_dict(weights)
mine.load_state_dict(weights)

digits = mv.data.digits()
images = mv.data.standardise(digits.test.images, digits.mean, digits.std)
images = images.astype(np.float64)  # (360, 8, 8, 1)
five = mv.Tensor(images[[2, 0, 1, 3, 4]])  # a 0, 1, 3, 7 and 8
print("equal:", np.allclose(mine(five).numpy(), theirs(five).numpy()), mine(five).shape)

# %% [markdown]
# They agree in every logit, and `MyViT` retires. `load_state_dict` was a second check: it refuses names that are missing or left over, and shapes
# that differ.
#
# ## The way of a 7
#
# Now the whole forward pass, stage by stage. We walk it by hand and keep what we meet.

# %%
z, first = theirs.embed(five)[0], theirs.blocks[0]
qkv = first.attn.qkv(first.norm1(z))  # (B, T, 3D)
q, k = (mv.composed.split_heads(qkv[:, :, i : i + 48], 4) for i in (0, 48))
stages = {"pixels": five, "patches": mv.Tensor(mv.patchify(five.numpy(), 2))}
stages |= {"tokens": z, "attention": mv.composed.attention_weights(q, k)}
for block in theirs.blocks:
    z = block(z)
stages |= {"blocks": z, "class token": theirs.norm(z)[:, 0], "logits": theirs(five)}
for name, x in stages.items():
    print(f"{name:12} {x.shape}")

# %% [markdown]
# Five images go in and five rows come out; nothing ever mixes axis 0. (The method `embed` of minivit's ViT returns a second thing for another kind of
# positions, hence the `[0]`.) The fourth image is a 7. Here is what was seen of it.

# %%
kinds = {name: x.numpy()[3] for name, x in stages.items()}
kinds["pixels"], kinds["attention"] = kinds["pixels"][:, :, 0], kinds["attention"][0]
widths = (2, 1.2, 3, 2.4, 3, 1, 1)
fig, axes = plt.subplots(1, 7, figsize=(9.6, 3), width_ratios=widths)
for ax, (name, x) in zip(axes, kinds.items(), strict=True):
    ax.imshow(x if x.ndim == 2 else x[:, None], "cividis", aspect="auto")
    ax.set(xticks=[], yticks=[], xlabel="×".join(map(str, x.shape)))
    ax.set_title(name.replace(" ", "\n"), fontsize=10)
fig.tight_layout()
top, said = kinds["attention"].max(), kinds["logits"].argmax()
mv.viz.show(fig, alt="Seven maps, from 8×8 pixels of a 7 over 16×4 patches, 17×48 tokens "
            "and a 17×17 table to ten logits. Largest share in the table "
            f"{top:.2f}; largest logit that of class {said}.")  # fmt: skip

# %% [markdown]
# *One image on its way, each stage on its own scale; of twelve attention tables that of head 0 in block 0. Read by rows: sixteen patches, then seventeen tokens with the
# class token on top. The weights are random, so nothing here was learned. After three blocks with such large weights the tokens look alike: chapter 08's averages.*
#
# On the left you can still see a 7, on the right only the model can. Note where the sizes come from. The image decides how many rows there are, the model how many columns. Only the
# position table has a row for each place, and so ties a model to one size of image.
#
# What does not fit is refused at the door. Our photo, for instance:

# %% tags=["break"]
photo = mv.data.to_float(mv.data.read_pixels("assets/photo.png"))  # (256, 256, 3)
try:
    theirs(photo[None])
except mv.ShapeError as error:
    print(type(error).__name__, error)

# %% [markdown]
# *Your turn* ([`vit_forward`](../exercises/ch09.py#vit_forward), ★★★, 30 minutes): the whole way from images to logits, out of a dict of weights,
# without a single module. You may look at nothing but shapes.

# %% tags=["your-turn"]
from exercises import check


def vit_forward(images, weights, patch_size, num_heads):  # -> (B, K)
    ...


check("vit_forward", vit_forward)

# %% [markdown]
# ## Where the numbers are
#
# How much does it learn? Count one block of width $D$ whose MLP is four times as wide, as in the paper. Attention has a packed $D \times 3D$ and a $D \times
# D$ matrix, with biases $4D^2 + 4D$. The MLP has $D \times 4D$ and back, $8D^2 + 5D$. Two norms have $4D$. Together $12D^2 + 13D$.
#
# The model is famous for attention. **Which share of all that a ViT-Base learns belongs to attention: about 1/3, 1/2 or 2/3?** ($D = 768$, 12 blocks; the
# heads do not matter.)


# %% tags=["hide-output"]
def count(size, P, C, K, D, L, ratio=4):
    T, hidden = 1 + (size // P) ** 2, ratio * D
    return {
        "E": P * P * C * D + D,
        "class token and positions": D + T * D,
        "attention": L * (D * 3 * D + 3 * D + D * D + D),
        "MLPs": L * (D * hidden + hidden + hidden * D + D),
        "norms and head": L * 4 * D + 2 * D + D * K + K,
    }


guess = ...  # 1/3, 1/2 or 2/3
base = count(224, 16, 3, 1000, 768, 12)
for name, n in base.items():
    print(f"{name:26} {n:12,} {n / sum(base.values()):6.1%}")

# %% [markdown]
# A third; two thirds are MLP. Where tokens talk is not where most of the numbers are. But is our count right? The library can say, and the paper's table 1
# names three sizes. Weights of 632 million numbers would take seconds to draw and 2.5 GB to keep; inside
# [`blank`](../minivit/nn/init.py#blank) nothing is drawn, and zeros that nobody touches take no room.

# %% tags=["check"]
paper = {
    "ViT-Base": ((224, 16, 3, 1000, 768, 12), 12, "86M"),
    "ViT-Large": ((224, 16, 3, 1000, 1024, 24), 16, "307M"),
    "ViT-Huge": ((224, 14, 3, 1000, 1280, 32), 16, "632M"),
}
for name, (numbers, heads, said) in paper.items():
    with mv.nn.init.blank():
        model = mv.ViT(*numbers, heads)
    total, head = model.num_parameters(), model.head.num_parameters()
    same = total == sum(count(*numbers).values())
    print(
        f"{name:9} {total:11,}, no head {total - head:11,}; paper {said}; ours {same}"
    )
same = sum(count(8, 2, 1, 10, 48, 3, 2).values()) == theirs.num_parameters()
print(f"digits    {theirs.num_parameters():11,}; ours {same}")

# %% [markdown]
# Our formula agrees with the library four times. The paper's rounded figures are its own: 86M and 632M fit, 307M fits neither of our two counts for ViT-Large, and
# the paper does not say what it counted. Such gaps are common; note them, and trust what you can recount.
#
# *Your turn* ([`count_parameters`](../exercises/ch09.py#count_parameters), ★, 10 minutes): as one number.


# %% tags=["your-turn"]
def count_parameters(image_size, patch_size, in_channels, num_classes, dim, depth,
                     mlp_ratio):  # fmt: skip
    ...


check("count_parameters", count_parameters)

# %% [markdown]
# Numbers to learn are one cost, multiplications another. In a block the Linears take $12\,T D^2$ of them. Scores and averages, where tokens meet, take
# $2\,T^2 D$: the square that chapter 06 warned of. The two are as $6D$ to $T$. **For ViT-Base, with 197 tokens, what share of a block's multiplications is spent between
# tokens: 4 %, 33 % or 60 %?** Guess before you divide.

# %% tags=["hide-output"]
guess = ...  # per cent
tokens = np.logspace(1, 5, 81)
fig, ax = plt.subplots(figsize=(6.6, 2.9), layout="constrained")
words = ""
for D, T, wide, style in ((768, 197, 4, "-"), (48, 17, 2, "--")):  # MLP: wide·D
    curve, ours = (100 / (1 + (2 + wide) * D / n) for n in (tokens, T))
    ax.semilogx(tokens, curve, style, color=mv.viz.BLUE, label=f"D = {D}")
    ax.plot(T, ours, "o", color=mv.viz.VERMILLION)
    words += f" D = {D}, {T} tokens: {ours:.1f} %."
ax.set(xlabel="tokens", ylabel="multiplications between tokens (%)")
ax.legend(frameon=False)
mv.viz.show(fig, alt=f"Two rising curves, share in per cent against tokens.{words}")
print(words.strip())

# %% [markdown]
# *Share of a block's multiplications that is spent between tokens. Dots: ViT-Base on 224×224 pixels, and our digits, whose MLPs are only twice as wide. Multiplications are not time.*
#
# Four per cent. The square is real, but half is reached only at $T = 6D$: 4,608 tokens, an image over a thousand pixels wide.
#
# ## Before the first step
#
# Does it fit together? Shapes fit and two programs agree, and yet both might be wrong. So we ask what any right model must do. Chapter 04 had the first alarm: who knows
# nothing loses $\ln K$. With a head of 0 that must hold exactly. A ViT with two blocks, its positions starting as chapter 05's clocks, gets 32 training images and goes one plain step.
#
# **Which of its 32 parameter arrays have a gradient, before that step and after it?** Only the head? Only the last block and the head? All?


# %% tags=["hide-output"]
def fresh():
    clocks = {"positions": "learned_sincos", "position_base": 100}
    return mv.ViT(8, 2, 1, 10, **sizes | {"depth": 2}, **clocks).astype(np.float64)


guess = ...
x = mv.data.standardise(digits.train.images[:32], digits.mean, digits.std)
x, y, model = x.astype(np.float64), digits.train.labels[:32], fresh()
for when in ("before", "after"):
    loss = mv.cross_entropy(model(x), y)
    model.zero_grad()
    loss.backward()
    heard = [name for name, p in model.named_parameters() if p.grad.any()]
    print(f"{when:6}: loss {loss.item():.4f}, {len(heard)} have a gradient", heard[:2])
    for p in model.parameters():
        p.data -= 0.2 * p.grad
print("ln 10 =", np.log(10).round(4))

# %% [markdown]
# Before, only the head's two: the logits are $yW + b$, the slope in $y$ is $(p - \text{label})\,W^\top$, and $W = 0$ lets nothing through. The slope in $W$ itself is
# not 0. So the first step moves the head alone, and from the second on everybody hears. "Zeros cannot learn" is true of two layers of zeros, one behind the other, not of
# one. Both numbers, $\ln 10$ and two, are what theory demanded.
#
# ## Thirty-two images by heart
#
# The second alarm is a small training. A ViT of nearly 40,000 numbers gets the same 32 images again and again, by plain descent, without anything that
# chapter 10 will add. "Overfitting is bad", everybody knows. Here it is the test: a model that cannot learn 32 images by heart is not
# careful, it is broken.


# %%
def learn(model, y, read=mv.ViT.__call__, steps=120):  # y (32,), or (steps, 32)
    losses = []
    for step in range(steps):
        loss = mv.cross_entropy(read(model, x), y if y.ndim == 1 else y[step])
        losses.append(loss.item())
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.2 * (0 if p.grad is None else p.grad)
    return losses


def right(model, images, labels, read=mv.ViT.__call__):  # how many
    with mv.no_grad():
        return (read(model, images).numpy().argmax(axis=1) == labels).sum()


# %% [markdown]
# `read` is how logits come out of a model; for now it is to call it. Both `learn` and `right` will want another below.

# %%
model = fresh()
print(f"{model.num_parameters():,} numbers")
print("before:", right(model, x, y), "of 32 right")
losses = learn(model, y)
print("after: ", right(model, x, y), f"of 32 right, last loss {losses[-1]:.2f}")
print(f"of 360 new images {right(model, images, digits.test.labels) / 360:.0%}")

# %% [markdown]
# All 32, by heart, and about four in ten new ones. So it can learn. What has it learned? We do it again, but the 32 labels are drawn at random, so that there is nothing
# in the images to be found out. **How many of the 32 does it get right after the same 120 steps?** (a) About 3, one in ten. (b) About half. (c) All.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
drawn, rote = np.random.default_rng(0).integers(0, 10, 32), fresh()
curves = {"their labels": losses, "labels drawn at random": learn(rote, drawn)}
seen, hits = right(rote, x, drawn), (drawn == y).sum()
print(f"{seen} of 32 right ({hits} of the drawn labels are the true ones by accident)")
print(f"of 360 new images {right(rote, images, digits.test.labels) / 360:.0%}")
fig, ax = plt.subplots(figsize=(6.8, 2.9), layout="constrained")
for (name, curve), style in zip(curves.items(), ("-", "--"), strict=True):
    ax.plot(curve, style, label=name)
ax.axhline(np.log(10), color="gray", ls=":")
ax.set(xlabel="steps", ylabel="loss on the 32 images (nats)")
ax.legend(frameon=False)
a, b = (int(np.argmax(np.array(curve) < 1)) for curve in curves.values())
mv.viz.show(fig, alt="Loss over 120 steps, two jagged lines from ln 10 to near 0. First "
            f"below 1 at step {a}; with random labels at step {b}.")  # fmt: skip

# %% [markdown]
# *Loss on the same 32 images under their own and under random labels, one seed; dotted: $\ln 10$. The jags are steps that were too long; chapter 10 sees to them.*
#
# (c). A model with a thousand numbers for each image can learn anything by heart (Zhang and others, 2017), sense or nonsense. (New images are read at 18 %, not 10 %, for seven of the drawn
# labels happened to be true.) So this test says nothing about what a model understands. It says that every part passes on what it should, forwards and backwards. Or does it? We plant four faults:
#
# - A: residuals are forgotten;
# - B: positions are forgotten;
# - C: the class token is read before the blocks;
# - D: in each step the labels come in another order than the images.


# %%
def reader(start=lambda model, z: z, step=lambda block, z: block(z), depth=None):
    def read(model, images):
        z = start(model, model.embed(mv.Tensor(images))[0])
        for block in model.blocks[:depth]:
            z = step(block, z)
        return model.head(model.norm(z)[:, 0])

    return read


faults = {
    "A": reader(step=lambda b, z: b.mlp(b.norm2(b.attn(b.norm1(z))))),
    "B": reader(start=lambda model, z: z - model.pos_embed),
    "C": reader(depth=0),
    "D": reader(),
}

# %% [markdown]
# **Which of the four can learn the 32 images all the same?** For those the test is blind.

# %% tags=["hide-output"]
guess = ...  # some of A, B, C, D
out_of_step = np.random.default_rng(0).permuted(np.tile(y, (120, 1)), axis=1)
for name, read in {"none": reader(), **faults}.items():
    model = fresh()
    losses = learn(model, out_of_step if name == "D" else y, read)
    seen = right(model, x, y, read)
    test = right(model, images, digits.test.labels, read) / 360
    print(f"{name:4} loss {losses[0]:.2f} to {losses[-1]:.2f}, ", end="")
    print(f"{seen:2} of 32 right; of new images {test:.0%}")

# %% [markdown]
# B. Without positions the ViT sees a bag of patches, and 32 bags can be told apart; the loss is as low as with them. The test finds what cuts the way from images to labels: A
# (chapter 08's sameness), C (the empty seat, chapter 05) and D, which stays near $\ln 10$ for ever. What only makes a model poorer, it cannot find. For B you need a task where places matter, or a test of the symmetry
# itself, as at the end of chapter 07.
#
# So there are four kinds of evidence, and each has its blind spot. Two programs that agree may share a mistake. Counts and shapes are right in models that compute nonsense. $\ln K$ sees only the beginning. Thirty-two images
# see only whether anything can be learned. Together they leave little room. Run them, in this order, whenever you build something new.
#
# ## What we left out
#
# The paper trains with dropout and, in its first phase, with a head of two layers; `mv.ViT` has `dropout`, and more that came later: mean pooling in place of the class token, registers, other positions, images of
# other sizes. Real weights come in chapter 17.
#
# **Further reading.** Dosovitskiy and others, *An Image is Worth 16x16 Words* (2021), sections 3.1 and 4.1: you can now read every line. Vaswani and others, *Attention Is All You Need* (2017), figure 1, with the norm after the
# addition; Devlin and others, *BERT* (2019), for the class token. Zhang and others, *Understanding deep learning requires rethinking generalization* (2017), on learning noise by heart. Karpathy, *A Recipe for
# Training Neural Networks* (2019), which recommends both alarms.
#
# ## In three sentences
#
# Patches times $E$, a class token in front, positions added, $L$ blocks, a norm and a head: the Vision Transformer is four equations and as many lines. Two thirds of what its blocks learn is in MLPs, and nearly all of their
# multiplications are in Linears that see one token at a time. Does it fit together? It agrees with an independent program, has as many numbers as theory says, starts at $\ln K$ exactly, and learns 32 images by heart, and no one of these alone
# would have told us.
#
# **From earlier chapters**: why may all parameters of the blocks have gradient 0 in the first step and still be learned, when a hidden layer and an output layer that both start at 0 (04) could not? Which of the four faults would chapter 07's
# `shuffle_test` find?
#
# **To leave with**: a ViT for 100 classes starts with a loss of 4.61, memorises 32 images in two hundred steps, and reads 1 % of the test images. Which of its parts do you trust by now, and where do you look first?

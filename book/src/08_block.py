# ---
# jupyter:
#   minivit:
#     title: The block
#     question: Why so many small parts?
#     here: [blocks]
#     minutes: 50
#     exercises: [layer_norm, layer_norm_vjp, block]
#     builds: [gelu, layer_norm, nn.LayerNorm, nn.MLP, nn.Block]
# ---

# %% [markdown]
# In chapter 07 two heads brought home two colours: the twin's, and that of the lower right corner. Here is a third question about the same
# images: **are the two the same?** Nothing more has to be fetched for it. Something has to be *computed* from what was fetched, and we
# have no part yet that can. We build it; then we stack it up, watch the stack die, and find out what keeps one alive. The whole is called a
# **block**, and a Vision Transformer is little else.

# %%
import json
from math import erf

import matplotlib.pyplot as plt
import numpy as np

import minivit as mv

twin = mv.data.twin(n_train=16000, n_val=1, n_test=4000)


def prepare(split):  # patches (n, 16, 48); twin's colour, corner's, the same? (n, 3)
    corner, labels = split.extra["colours"][:, 15], split.labels
    yes = np.flatnonzero((corner == labels) & (split.extra["twin"] != 15))
    no = np.flatnonzero(corner != labels)[: len(yes)]  # as many
    rows = np.sort(np.concatenate([yes, no]))
    images = mv.data.standardise(split.images[rows], twin.mean, twin.std)
    answers = np.stack([labels, corner, corner == labels], axis=1)[rows]
    return mv.patchify(images, 4).astype(np.float64), answers.astype(int)


# %% [markdown]
# A yes is as frequent as a no, so guessing the third answer is right in 50 %. The model is chapter 07's: patches to tokens, a position for each,
# then whatever layers we hand over, and a Linear that reads ten numbers from patch 0: four colours, four colours, yes or no.

# %%
x_train, y_train = prepare(twin.train)
x_test, y_test = prepare(twin.test)
print("patches", x_train.shape, "answers", y_train.shape, "test images", len(x_test))


class Reader(mv.nn.Module):
    def __init__(self, *layers):
        self.embed, self.layers = mv.nn.Linear(48, 64), list(layers)
        start = 0.3 * mv.random.current().standard_normal((16, 64))
        self.pos, self.read = mv.nn.Parameter(start), mv.nn.Linear(64, 10)

    def forward(self, patches):  # (B, 16, 48) -> (B, 10)
        x = self.embed(patches) + self.pos
        for layer in self.layers:
            x = layer(x)
        return self.read(x[:, 0])


# %% [markdown]
# The loop is chapter 07's too, in float64, with one cross-entropy for each question.

# %%
QUESTIONS = slice(0, 4), slice(4, 8), slice(8, 10)  # of the ten numbers


def fresh(make, seed=0):
    with mv.random.drawing_from(mv.random.stream(seed, "init")):
        return make().astype(np.float64)


def trained(model, seed=0, steps=400, rate=0.2):
    rng = mv.random.stream(seed, "batches")
    for _ in range(steps):
        i = rng.integers(0, len(x_train), 64)
        s, y = model(mv.Tensor(x_train[i])), y_train[i]
        losses = [mv.cross_entropy(s[:, q], y[:, k]) for k, q in enumerate(QUESTIONS)]
        model.zero_grad()
        sum(losses).backward()
        for p in model.parameters():
            p.data -= rate * p.grad
    return model


# %% [markdown]
# First with what we have: one attention layer of two heads. Chapter 07 showed that both colours arrive at patch 0, side by side, and a Linear reads
# them. **How often is the third answer right?** (a) In 50 %, as by guessing. (b) In about 75 %. (c) Near 100: all that it needs is there.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"


def right(s):  # ten numbers for each test image -> right answers, per cent
    said = np.stack([s[:, q].argmax(axis=1) for q in QUESTIONS], axis=1)
    return "twin {:3.0f}, corner {:3.0f}, same? {:3.0f} %".format(
        *100 * (said == y_test).mean(axis=0)
    )


def report(name, model):
    with mv.no_grad():
        print(f"{name}: {right(model(mv.Tensor(x_test)).numpy())}")


report("attention", trained(fresh(lambda: Reader(mv.nn.Attention(64, 2)))))

# %% [markdown]
# (a). A Linear gives the twin's colour $a$ a number $u_a$, the corner's colour $b$ a number $w_b$; its score for yes is the sum. On average over equal
# pairs that is $\bar u + \bar w$, and over unequal pairs the same. Where nothing separates them on average, cross-entropy is lowest with all scores
# equal, at $\ln 2$: its curve bends upwards, so every spread costs more than it saves. To have all the information is not to be able to read it.
#
# ## Thinking
#
# We need a step that is not linear. Chapters 04 and 05 had one: Linear, ReLU, Linear. ViTs take a smoother function, **GELU** (Hendrycks and Gimpel, 2016): each number
# times the share $\Phi(x)$ of normally distributed numbers below it,
#
# $$\operatorname{gelu}(x) = x\,\Phi(x), \qquad \operatorname{gelu}'(x) = \Phi(x) + x\,\varphi(x),$$
#
# with $\varphi = \Phi'$, the bell curve. By hand: $\Phi(0) = \tfrac12$, so the slope at 0 is ½. Far to the right gelu is $x$, far to the left 0.


# %% tags=["check"]
def my_gelu(x):
    return x * np.array([(1 + erf(t / 2**0.5)) / 2 for t in x])  # x Φ(x)


z = np.linspace(-4, 4, 401)
theirs = mv.gelu(t := mv.Tensor(z, requires_grad=True))
theirs.sum().backward()
print("as mv.gelu:", np.allclose(my_gelu(z), theirs.numpy()))
fig, axes = plt.subplots(1, 2, figsize=(8.4, 2.8), layout="constrained")
for ax, what in zip(axes, ("number out", "slope"), strict=True):
    relu, gelu = (mv.relu(z).numpy(), my_gelu(z)) if ax is axes[0] else (z > 0, t.grad)
    ax.plot(z, relu, "--", color=mv.viz.VERMILLION, label="ReLU")
    ax.plot(z, gelu, color=mv.viz.BLUE, label="GELU")
    ax.set(xlabel="number in", ylabel=what)
axes[0].legend(frameon=False)
words = f"lowest value {my_gelu(z).min():.2f}, largest slope {t.grad.max():.2f}"
mv.viz.show(fig, alt=f"Values and slopes of ReLU and GELU, -4 to 4. GELU: {words}.")

# %% [markdown]
# *ReLU and GELU, values and slopes. GELU dips below 0, and its slope has no step: a number a little below 0 still hears of the loss. That this trains
# better was tried, not derived, and the gain is small.*
#
# Linear, GELU, Linear, for each token alone, is an **MLP**: (B, T, D) → (B, T, hidden) → (B, T, D). Nothing passes between tokens in it.
# Attention fetches; the MLP works on what was fetched.


# %% tags=["check"]
class MyMLP(mv.nn.Module):
    def __init__(self, D, hidden):
        self.fc1, self.fc2 = mv.nn.Linear(D, hidden), mv.nn.Linear(hidden, D)

    def forward(self, x):  # (..., D) -> (..., hidden) -> (..., D)
        return self.fc2(mv.gelu(self.fc1(x)))


mine, theirs = fresh(lambda: MyMLP(64, 128)), fresh(lambda: mv.nn.MLP(64, 128))
x = mv.Tensor(np.random.default_rng(0).standard_normal((2, 16, 64)))
print("as mv.nn.MLP:", np.allclose(mine(x).numpy(), theirs(x).numpy()))
thinker = trained(fresh(lambda: Reader(mv.nn.Attention(64, 2), MyMLP(64, 128))))
report("attention, MLP", thinker)

# %% [markdown]
# All three. (One seed; five are stored, and we look at them below.) From here on we use [`mv.nn.MLP`](../minivit/nn/layers.py#MLP) and
# [`mv.gelu`](../minivit/engine/composed.py#gelu).
#
# ## Twenty-four of them
#
# Some questions only arise from answers, and for those one round of fetching and thinking is not enough. The ViT paper's models have 12 to 32. We
# stack 24 such pairs, untrained, and look at three things. The **size** of tokens is the root mean square of their numbers. The **difference** is the size of what
# remains when the mean of an image's sixteen tokens is taken away, as a share of their size. The **slope** is the size of gradients on their way back; to see it we add a leaf of
# zeros after each layer, whose gradient is what passes there.


# %%
def rms(a):
    return float(np.sqrt((a**2).mean()))


def journey(make, scale=1, way=lambda layer, x: layer(x)):  # -> three rows of 25
    leaves = mv.Tensor(np.zeros((25, 8, 16, 64)), requires_grad=True)
    x, seen = start + leaves[0], [start.numpy()]
    for i in range(24):
        layer = fresh(make, seed=i)
        for p in layer.parameters():
            p.data *= scale if p.ndim == 2 else 1  # the matrices only
        x = way(layer, x) + leaves[i + 1]
        seen.append(x.numpy())
    (x * end).sum().backward()
    apart = [rms(a - a.mean(axis=1, keepdims=True)) / rms(a) for a in seen]
    return np.array([[rms(a) for a in seen], apart, [rms(g) for g in leaves.grad]])


# %% [markdown]
# The journey begins with the tokens of eight images (`start`), and the way back with random slopes of size 1 (`end`).


# %%
class Pair(mv.nn.Module):
    def __init__(self):
        self.attn, self.mlp = mv.nn.Attention(64, num_heads=4), mv.nn.MLP(64, 128)

    def forward(self, x):
        return self.mlp(self.attn(x))


reader = fresh(Reader)
start = mv.Tensor((reader.embed(mv.Tensor(x_test[:8])) + reader.pos).numpy())
end = np.random.default_rng(0).standard_normal((8, 16, 64))
bare = journey(Pair)
print("size after 0, 1, 2 and 24:", *(f"{s:.0e}" for s in bare[0, [0, 1, 2, 24]]))
print(f"slope at the start: {bare[2, 0]:.0e}")

# %% [markdown]
# Each pair shrinks the tokens about fifteenfold. After 24 nothing is left of them, and on the way back next to nothing reaches the first layers, so these
# could not learn. Are the weights too small, then? We double all matrices, and the last size is in the thousands. **How much do the sixteen
# tokens of an image still differ now?** (a) As much as at the start, for nothing shrinks any more. (b) Less, but clearly. (c) Not at all.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
doubled = journey(Pair, scale=2)
fig, axes = plt.subplots(1, 2, figsize=(8.4, 2.8), layout="constrained")
for k, name in enumerate(("size", "difference")):
    kept = np.maximum([bare[k], doubled[k]], 1e-12) if k else (bare[k], doubled[k])
    axes[k].semilogy(kept[0], color=mv.viz.BLUE, label="weights as they were")
    axes[k].semilogy(kept[1], "--", color=mv.viz.VERMILLION, label="doubled")
    axes[k].set(xlabel="pairs", ylabel=name)
axes[0].legend(frameon=False)
words = "Last size {:.0e}, difference after two pairs {:.0e}"
one, two = (words.format(run[0, -1], run[1, 2]) for run in (bare, doubled))
mv.viz.show(fig, alt="Two line charts over 24 pairs, logarithmic; both differences are "
            f"soon below 1e-12. {one}. Doubled: {two}.")  # fmt: skip

# %% [markdown]
# *Size of the tokens, and how much those of one image differ, over eight images. Differences are cut off at $10^{-12}$: below is only rounding. Nothing is trained.*
#
# (c), whatever the size. What a row of shares brings is an average. Averages differ less than what they average, and averages of
# averages still less: soon all sixteen tokens say the same. The signal dies twice, of size and of sameness, and larger weights cure only the first.
#
# ## Add, do not replace
#
# The cure is one sign. Let each part *add* to the tokens what it found, and keep what is there: $x \leftarrow x + f(x)$, a **residual
# connection** (He and others, 2015). What runs through the stack is now a growing sum. And the way back gets a straight line: the slope in
# $x$ of $x + f(x)$ is $g$ plus whatever comes back through $f$. The $g$ arrives whole, however deep.


# %%
class Adding(Pair):
    def forward(self, x):
        x = x + self.attn(x)
        return x + self.mlp(x)


for scale in (1, 1.5, 2):
    size, difference, slope = journey(Adding, scale)
    print(f"weights × {scale:3}: size {size[-1]:.0e}, difference ", end="")
    print(f"{difference[-1]:.0e}, slope at the start {slope[0]:.0e}")

# %% [markdown]
# With the weights as they were it works. But what a part adds is proportional to the sum that it read. If each adds $c$ for every 1 that is there, in a direction of its own,
# the sum grows by $\sqrt{1 + c^2}$ each time: in 48 parts 2.6-fold with $c = 0.2$, 17-million-fold with $c = 1$. And weights grow as a network learns.
#
# ## LayerNorm
#
# So a part reads a normalised copy: each token minus the mean $\mu$ of its $D$ features, divided by their standard deviation, then stretched and shifted by two learned vectors. This is
# **LayerNorm** (Ba and others, 2016):
#
# $$\hat x = \frac{x - \mu}{\sigma}, \quad \sigma = \sqrt{\operatorname{var}(x) + \varepsilon}, \qquad y = \gamma\, \hat x + \beta$$
#
# By hand, for the token (3, 1): $\mu = 2$, variance 1, $\hat x = (1, -1)$. (The $\varepsilon = 10^{-6}$ helps where all features are alike.)
#
# Eight images pass as one batch; then the first passes alone. **Do its numbers change?** "Normalise" usually means: by statistics of many examples. We do
# that, too.

# %% tags=["hide-output"]
guess = ...  # "yes" or "no"


def normalised(x, axis):  # to mean 0 and variance 1 along an axis
    centred = x - x.mean(axis=axis, keepdims=True)
    return centred / np.sqrt(x.var(axis=axis, keepdims=True) + 1e-6)


print("by hand:", normalised(np.array([[3.0, 1.0]]), axis=-1).round(3))
batch, one = start.numpy(), start.numpy()[:1]  # (8, 16, 64), (1, 16, 64)
for name, axis in (("over features, axis -1", -1), ("over the batch, axis 0", 0)):
    alone = normalised(one, axis)
    same = np.allclose(normalised(batch, axis)[:1], alone)
    print(f"{name}: alone as in the batch {same}; alone its size is {rms(alone):.2f}")

# %% [markdown]
# No. LayerNorm looks along the last axis, at one token of one image. It does not know that there is a batch, neither in training nor later. Normalising over the batch exists as well (batch
# normalisation, in many convolutional networks); there an image alone is its own mean and becomes zeros.
#
# *Your turn* ([`layer_norm`](../exercises/ch08.py#layer_norm), ★, 10 minutes). Mind where $\varepsilon$ stands.

# %% tags=["your-turn"]
from exercises import check


def layer_norm(x, weight, bias, eps=1e-6):  # Tensors (..., D), (D,), (D,)
    ...


check("layer_norm", layer_norm)

# %% [markdown]
# ## Its gradient
#
# The token (3, 1) became (1, −1): minus 2, divided by 1. **What is the slope of the first number that comes out with respect to the 3?** (a) 1, for it was divided
# by 1. (b) ½, for the mean moves along. (c) 0.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
for token in ([3.0, 1.0], [4.0, 1.0], [30.0, 1.0]):
    x = mv.Tensor(np.array(token), requires_grad=True)
    y = mv.layer_norm(x, np.ones(2), np.zeros(2))
    y[0].backward()
    print(token, "becomes", y.numpy().round(3), "with slope", abs(x.grad[0].round(3)))

# %% [markdown]
# (c)! Put any larger number in place of the 3, and out comes (1, −1): mean and deviation both move along. (a) takes both for constants, (b) the deviation. With $D$ features less is lost, but two things
# always: adding one number to all features changes nothing, nor does stretching all deviations.
#
# Now in general. Let $h = \gamma g$ be the slope that arrives at $\hat x$:
#
# - $\partial \mu / \partial x_j = 1/D$;
# - $\partial \sigma / \partial x_j = (x_j - \mu) / (D\sigma) = \hat x_j / D$, since var is a mean of squared deviations;
# - $\partial \hat x_i / \partial x_j = \big(\delta_{ij} - \tfrac1D - \tfrac1D\, \hat x_i\, \hat x_j\big) / \sigma$, by the quotient rule, $\delta_{ij}$ being 1 where $i = j$, else 0;
# - times $h_i$, summed over $i$: $\;dx = \big(h - \operatorname{mean}(h) - \hat x \operatorname{mean}(h\, \hat x)\big) / \sigma$.
#
# The second term takes away the first of the lost directions, the third the other. As an operation, with a lazy twin that takes $\mu$ and $\sigma$ for constants:


# %%
def norm_op(lazy):
    @mv.op
    def my_layer_norm(xp, x, weight, bias):  # (..., D), (D,), (D,) -> (..., D)
        sigma = xp.sqrt(x.var(axis=-1, keepdims=True) + 1e-6)
        unit = (x - x.mean(axis=-1, keepdims=True)) / sigma

        def vjp(g):
            h, rest = g * weight, tuple(range(x.ndim - 1))
            if not lazy:
                along = unit * (h * unit).mean(axis=-1, keepdims=True)
                h = h - h.mean(axis=-1, keepdims=True) - along
            return h / sigma, (g * unit).sum(axis=rest), g.sum(axis=rest)

        return unit * weight + bias, vjp

    return my_layer_norm


# %% [markdown]
# Both go before the referee, with three tokens of five features.

# %% tags=["check", "break"]
rng = np.random.default_rng(0)
arrays = [rng.standard_normal(shape) for shape in ((3, 5), 5, 5)]
ours, theirs = norm_op(lazy=False), mv.layer_norm
print("gradcheck:", mv.gradcheck(ours, *arrays).count("ok"), "of 3 ok")
print("as mv.layer_norm:", np.allclose(ours(*arrays).numpy(), theirs(*arrays).numpy()))
try:
    mv.gradcheck(norm_op(lazy=True), *arrays)
except mv.GradientError as error:
    for line in str(error).splitlines():
        print(type(error).__name__, line.split(", worst")[0])

# %% [markdown]
# The lazy twin is caught in $x$, and only there, for γ and β never meet the statistics. Such a fault lets a network train, a little astray at each step. The library has the
# formula as [`mv.layer_norm`](../minivit/engine/composed.py#layer_norm), with this gradient in its [faster twin](../minivit/engine/fused.py#layer_norm), and as a module that holds γ and β,
# [`mv.nn.LayerNorm`](../minivit/nn/layers.py#LayerNorm).
#
# *Your turn* ([`layer_norm_vjp`](../exercises/ch08.py#layer_norm_vjp), ★★★, 30 minutes), for any ε.


# %% tags=["your-turn"]
def layer_norm_vjp(g, x, weight, eps=1e-6):  # (..., D), (..., D), (D,)
    ...  # return dx, dweight, dbias


check("layer_norm_vjp", layer_norm_vjp)

# %% [markdown]
# ## The block
#
# Four parts, two additions: read a normalised copy, fetch, add; read a normalised copy, think, add.


# %% tags=["check"]
class MyBlock(mv.nn.Module):
    def __init__(self, D, heads, hidden):
        self.norm1, self.attn = mv.nn.LayerNorm(D), mv.nn.Attention(D, heads)
        self.norm2, self.mlp = mv.nn.LayerNorm(D), mv.nn.MLP(D, hidden)

    def forward(self, x):  # (B, T, D) -> (B, T, D)
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


mine, theirs = fresh(lambda: MyBlock(64, 4, 128)), mv.nn.Block(64, 4, mlp_ratio=2)
theirs.astype(np.float64).load_state_dict(mine.state_dict())
print("as mv.nn.Block:", np.allclose(mine(start).numpy(), theirs(start).numpy()))

# %% [markdown]
# From here on it is [`mv.nn.Block`](../minivit/nn/block.py#Block). *Your turn* ([`block`](../exercises/ch08.py#block), ★★, 15 minutes): the same with parts that are handed to
# you.


# %% tags=["your-turn"]
def block(x, norm1, attention, norm2, mlp):  # functions of arrays (B, T, D)
    ...


check("block", block)

# %% [markdown]
# ## One part at a time
#
# Are all of them needed? Here are the block and six others, each with one thing missing or moved. **Post-norm** is the order of the first Transformer (2017) and of
# BERT: add first, then normalise the sum itself. We make the journey with each, weights doubled. (`y := …` gives a name to
# something in the middle of a line.)


# %%
WAYS = {  # of a block b, which has all its parts; what is not called is not there
    "whole": lambda b, x: b(x),
    "no residual": lambda b, x: b.mlp(b.norm2(b.attn(b.norm1(x)))),
    "no norm": lambda b, x: (y := x + b.attn(x)) + b.mlp(y),
    "post-norm": lambda b, x: b.norm2((y := b.norm1(x + b.attn(x))) + b.mlp(y)),
    "no attention": lambda b, x: x + b.mlp(b.norm2(x)),
    "no MLP": lambda b, x: x + b.attn(b.norm1(x)),
    "no GELU": lambda b, x: (y := x + b.attn(b.norm1(x))) + linear(b.mlp, b.norm2(y)),
}
ends, linear = {}, lambda mlp, x: mlp.fc2(mlp.fc1(x))
for name, way in WAYS.items():
    ends[name] = run = journey(lambda: mv.nn.Block(64, 4, mlp_ratio=2), 2, way)
    last = f"size {run[0, -1]:5.0e}, difference {run[1, -1]:.2f}"
    print(f"{name:13} last {last}; first slope {run[2, 0]:5.0e}")


# %% [markdown]
# Three are ill, each in its own way. Here is how it comes about, block by block.

# %%
styles, colours = ("-", "--", "-.", ":"), ("BLUE", "GREEN", "VERMILLION", "INK")
fig, axes = plt.subplots(1, 3, figsize=(9.2, 3), layout="constrained")
for name, style, colour in zip(list(WAYS)[:4], styles, colours, strict=True):
    for ax, line in zip(axes, ends[name], strict=True):
        kept = np.maximum(line, 1e-8)
        ax.semilogy(kept, style, color=getattr(mv.viz, colour), label=name)
for ax, what in zip(axes, ("size", "difference", "slope"), strict=True):
    ax.set(xlabel="blocks", title=what)
axes[0].legend(frameon=False)
a, b, c, d = (f"{run[0, -1]:.0e}, {run[2, 0]:.0e}" for run in list(ends.values())[:4])
mv.viz.show(fig, alt="Size, difference and slope over 24 blocks. Last size, first slope: "
            f"whole {a}; no residual {b}; no norm {c}; post-norm {d}.")  # fmt: skip

# %% [markdown]
# *Untrained, weights doubled. Read slopes from right to left: 1 after the last block. Differences are cut off at $10^{-8}$. Sizes and slopes of the three not drawn run close to the whole.*
#
# In the block each part reads numbers of size 1 and adds about as much each time: growth by addition. Without norms it is by multiplication. Without residuals all tokens are the same
# after five blocks. Post-norm has size and slope in order, but each norm also shrinks what was there before: the straight line is cut 48 times, and differences fade.
#
# Attention, MLP and GELU can go without harm *here*. They do not keep the signal alive; they are what it is alive for. So now we train: single layers as above, five seeds, and six
# blocks, 500 steps at a rate of 0.1, three. [`scripts/block_runs.py`](../scripts/block_runs.py) did it beforehand, in eight minutes.

# %%
with open("assets/08_runs.json", encoding="utf-8") as file:
    runs = json.load(file)
fig, axes = plt.subplots(1, 3, figsize=(9.2, 3.6), layout="constrained", sharey=True)
for k, question in enumerate(("twin", "corner", "the same?")):
    for row, run in enumerate(runs):
        found = [answers[k] for answers in run["right"] if answers]
        axes[k].plot(found, [row] * len(found), "o", color=mv.viz.BLUE, alpha=0.6)
        axes[k].text(2, row, "×" * run["right"].count(None), va="center")
    axes[k].axvline((25, 25, 50)[k], color="gray", ls=":")
    axes[k].set(title=question, xlabel="right (%)", xlim=(0, 104))
axes[0].set_yticks(range(len(runs)), [f"{r['kind']} ({r['depth']})" for r in runs])
axes[0].invert_yaxis()
solved = [f"{r['kind']} {sum(min(a) > 99 for a in r['right'] if a)}" for r in runs]
mv.viz.show(fig, alt=f"Dots, % right. Seeds with all above 99 %: {', '.join(solved)}.")

# %% [markdown]
# *1,820 test images; a dot for each seed, × for a run whose numbers overflowed; dotted: chance; in brackets the layers or blocks. One recipe: another rate would move dots.*
#
# One layer deep, attention guesses the third answer, and an MLP without GELU changes nothing. With it three of five seeds solve it. Six deep, nothing is learned without residuals, all seeds overflow without norms,
# and without attention patch 0 hears of nobody. Post-norm learns too: six blocks are not yet deep. And without MLP or GELU most seeds still solve everything, since softmax and LayerNorm are not linear either.
#
# ## What runs along the line
#
# The straight line past the parts is often said to carry the image through. What is written there, after each of two trained blocks' four additions? We ask a Linear, fitted by least
# squares to patch 0.


# %%
def stations(model, patches):  # patch 0 in the running sum, five times (n, 64)
    x = [model.embed(mv.Tensor(patches)) + model.pos]
    for block in model.layers[:2]:
        x.append(x[-1] + block.attn(block.norm1(x[-1])))
        x.append(x[-1] + block.mlp(block.norm2(x[-1])))
    return [part.numpy()[:, 0] for part in x]


def legible(train, test):
    train, test = (
        np.pad(a, ((0, 0), (0, 1)), constant_values=1) for a in (train, test)
    )
    wanted = np.eye(10)[y_train[:2000] + [0, 4, 8]].sum(axis=1)  # three ones in a row
    return right(test @ np.linalg.lstsq(train, wanted)[0])


# %% [markdown]
# A last LayerNorm stands before the reading, since the sum has no fixed size. **At the end, what share of the sum in patch 0 still points where it pointed at the start**
# (the squared cosine of the two)? About 90 %, 50 % or 10 %? And in which order do the three answers appear?


# %% tags=["hide-output"]
def make():
    return Reader(mv.nn.Block(64, 2, 2), mv.nn.Block(64, 2, 2), mv.nn.LayerNorm(64))


guess = ...  # per cent, and an order
places = ("start", "attention", "MLP", "attention", "MLP")
for name in ("untrained", "trained"):
    model = trained(fresh(make), steps=200 if name == "trained" else 0, rate=0.1)
    report(f"{name}, as a whole", model)
    with mv.no_grad():
        sums, held = stations(model, x_train[:2000]), stations(model, x_test)
    lengths = [(b * b).sum(axis=1) for b in held]
    for a, b, place, length in zip(sums, held, places, lengths, strict=True):
        along = ((b * held[0]).sum(axis=1) ** 2 / length / lengths[0]).mean()
        print(f"  {place:10} along the start {along:4.0%}; {legible(a, b)}")

# %% [markdown]
# Less than 10 %. What runs along the line is not the image; it is the running sum, to which everyone adds. The first attention wrote down the corner's colour, the second the twin's, and the last MLP what follows from both. Nobody erased
# what was there before: an answer, once written, stays legible. Untrained blocks only blur: their averages leak a little of all colours. (One seed; another may write
# in another order.)
#
# ## What we left out
#
# The first weights: minivit draws them small enough that sums grow slowly, and some divide them by the depth besides. A learned factor that starts near 0 before each addition (`layer_scale`) goes further. RMSNorm leaves out the mean, gated
# MLPs (`mlp="swiglu"`) multiply two branches, and `drop_path` leaves out whole branches at random in training.
#
# **Further reading.** Ba, Kiros and Hinton, *Layer Normalization* (2016). He and others, *Identity Mappings in Deep Residual Networks* (2016), on keeping the line straight. Xiong and others, *On Layer Normalization in the
# Transformer Architecture* (2020): pre- against post-norm. Dong, Cordonnier and Loukas, *Attention is not all you need* (2021): how fast tokens become the same. Elhage and others, *A Mathematical Framework for
# Transformer Circuits* (2021): the running sum as a place where parts write and read.
#
# ## In three sentences
#
# Attention fetches and the MLP, thanks to its GELU, computes with what was fetched; a residual connection makes each of them add to a running sum, and LayerNorm lets each read that sum at a fixed size. LayerNorm's gradient has three terms,
# because mean and deviation move with the token, and it knows no batch. Why so many small parts? Because two of them do the work and would kill the signal in a deep stack, of size and of sameness, and the others are what it takes to keep size,
# difference and slope alive through two dozen of them.
#
# **From earlier chapters**: in chapter 04, $(xW_1)W_2$ was one Linear again; which row of the last figure shows the same fact? Attention alone commutes with any order of the tokens (07); does the whole block, and why?
#
# **To leave with**: somebody writes `x = self.norm1(x)`, then `x = x + self.attn(x)`. Everything runs. What is on the straight line now, and which of our three curves would show it?

# ---
# jupyter:
#   minivit:
#     title: Tensors that remember
#     question: And with arrays?
#     here: [gradients]
#     minutes: 50
#     exercises: [unbroadcast, matmul_vjp, take_vjp, which_vjp_lies]
#     builds: [op, no_grad, gradcheck, engine.tensor.unbroadcast, exp, log, sqrt, tanh, maximum, where, matmul]
# ---

# %% [markdown]
# In chapter 02 a program told 3s from 8s by one number an image and two dials, and got about 86 % right. Now we give it
# all 64 pixels and a dial for each. With our numbers that remember, one at a time, that would be this much work for a
# single step:

# %%
import matplotlib.pyplot as plt
import numpy as np

import minivit as mv

train = mv.data.digits().train
chosen = np.isin(train.labels, [3, 8])
X = train.images[chosen].reshape(-1, 64) / 255  # (n, 8, 8, 1) -> (n, 64), float64
middle = X.mean(axis=0)
X = X - middle  # (n, 64) - (64,), centred as in chapter 02
y = np.where(train.labels[chosen] == 8, 1.0, -1.0)[:, None]  # (n, 1), a column
n, pixels = X.shape
print(f"{n} images of {pixels} pixels: {n * (2 * pixels + 4):,} numbers that remember")

# %% [markdown]
# Sixty-four products and as many sums for each image, and four more for $\tanh$, label, square and total. But nearly all
# of them are made alike: the same product for each pixel, the same sum for each image. Arrays do such things in one line,
# and an array can remember as well as a number can. What would it have to remember? For a number it was a slope for each
# parent. For arrays, every entry that comes out may depend on every entry that went in:

# %%
np.set_printoptions(precision=3, suppress=True)


def jacobian(f, x, h=1e-6):  # x: (m,), f(x): (k,) -> (k, m), by small steps
    steps = h * np.eye(len(x))
    return np.stack([(f(x + s) - f(x - s)) / (2 * h) for s in steps], axis=1)


x = np.array([0.0, 0.5, 1.0])
J = jacobian(np.exp, x)
print(J, "\nexp(x):", np.exp(x))
photo = 256 * 256 * 3  # the values of chapter 01's photo
print(f"the same for the photo: {4 * photo**2 / 1024**3:.0f} GiB in float32")

# %% [markdown]
# This table of slopes, a row for each output, a column for each input, is the **Jacobian**. For `exp` it is mostly zeros,
# since output *i* knows only input *i*. For the photo it is chapter 01's table of all pairs, 144 GiB.
#
# ## Never build the table
#
# On the way back we hold the gradient $g$ of the output, a slope $g_i$ of the loss for each entry *i*, and want the slope
# in each input *j*. Along a path slopes multiply, over paths they add:
#
# $$\text{slope in } x_j = \sum_i g_i \, J_{ij} = (g\,J)_j$$
#
# A vector times the Jacobian, in short a **vjp**. And $g J$ can be had without *J*: for `exp` it is $g_j \exp(x_j)$. So
# an operation is a pair: how to compute its value, and how to turn the gradient `g` of its output into those of its
# inputs, each in its input's shape. We write them side by side.


# %%
def exp(x):
    y = np.exp(x)
    return y, lambda g: (g * y,)


def multiply(a, b):
    return a * b, lambda g: (g * b, g * a)


e, exp_vjp = exp(x)
g = np.array([1.0, -2.0, 0.5])  # some slopes of a loss, one for each output
print("with the table:", g @ J, " without:", exp_vjp(g)[0])
p, multiply_vjp = multiply(x, e)  # now x * exp(x), summed up to a loss
g_x, g_e = multiply_vjp(np.ones(3))  # the sum has slope 1 in each entry
print("walked back:   ", g_x + exp_vjp(g_e)[0])
print("measured:      ", jacobian(lambda x: np.array([(x * np.exp(x)).sum()]), x)[0])

# %% [markdown]
# `x` was used twice, in the product and in `exp`, so its two contributions are added, as in chapter 02. Nothing is new
# but the shapes. Only there are more ways now for a value to be used twice, and one of them is easy to overlook.
#
# ## Broadcasting, backwards
#
# Add a bias: `x` is `(3, 4)`, `b` is `(4,)`, and broadcasting fits the two. Let the slopes of the result all be 1.
# **What are the slopes of `b`: four ones, a table of ones `(3, 4)` because broadcasting works both ways, or something
# else?**

# %% tags=["hide-output"]
guess = ...
x, b = np.arange(12.0).reshape(3, 4), np.zeros(4)
g = np.ones((3, 4))
J = jacobian(lambda b: (x + b).reshape(-1), b)  # (12, 4)
print("slopes of b:", g.reshape(-1) @ J)

# %% [markdown]
# Threes. Broadcasting laid `b` over three rows, so each of its entries was used three times, and a value that is used
# three times receives the sum of three slopes. Seen so, there is nothing to learn by heart: **forwards the value is
# copied along an axis, backwards the slopes are summed along it**. Here with slopes that are not all alike:

# %%
g = np.array([[1, 0, 2, -1], [0, 3, 1, 1], [2, 1, -1, 0]])
b = np.array([[5, 6, 7, 8]])
panels = [("b", b), ("b, broadcast", b + 0 * g), ("slopes g", g)]
panels.append(("slopes of b", g.sum(axis=0, keepdims=True)))
fig, axes = plt.subplots(1, 4, figsize=(8.8, 2), layout="constrained")
for ax, (title, table) in zip(axes, panels, strict=True):
    ax.imshow(table, cmap="Blues", vmin=-2, vmax=20)
    for (i, j), value in np.ndenumerate(table):
        ax.text(j, i, str(value), ha="center", va="center")
    ax.set(title=title, xticks=[], yticks=[])
mv.viz.show(
    fig,
    alt=f"Four tables: b, one row {b[0].tolist()}; the same row three times; slopes g of "
    f"3 rows; and the sum of the rows of g, {g.sum(axis=0).tolist()}, the slopes of b.",
)

# %% [markdown]
# *Left, `b` forwards: one row becomes three equal ones. Right, the way back: three rows of slopes, all different, become
# one by adding them up. The numbers are made up; the shapes are the point.*
#
# There are two ways to be broadcast. An axis that was missing appears: on the way back it is summed and goes. An axis of
# length 1 is stretched: on the way back it is summed and stays, with length 1. In `(2, 3, 4) + (3, 1)` both happen, and
# each entry of the smaller one is used eight times. A function that undoes it for any two shapes is your first exercise,
# [`unbroadcast`](../exercises/ch03.py#unbroadcast) (★★, 15 minutes), and one of the ten that this book stands on.

# %% tags=["your-turn"]
from exercises import check


def unbroadcast(g, shape):  # g (2, 3, 4), shape (3, 1) -> (3, 1)
    ...


check("unbroadcast", unbroadcast)

# %% [markdown]
# From here on we use [minivit's](../minivit/engine/tensor.py#unbroadcast), which is five lines long. Against our small
# steps:

# %% tags=["check"]
from minivit.engine.tensor import unbroadcast

big, small = np.random.default_rng(0).standard_normal((2, 3, 4)), np.zeros(3)
g = np.random.default_rng(1).standard_normal((2, 3, 4))
J = jacobian(lambda s: (big + s.reshape(3, 1)).reshape(-1), small)  # (24, 3)
print(unbroadcast(g, (3, 1)).shape)
print(np.allclose(unbroadcast(g, (3, 1)).reshape(-1), g.reshape(-1) @ J))

# %% [markdown]
# The mirror image holds too. A sum uses each entry once, and hands the one slope of its result to all of them: **the
# backward of a sum is a broadcast**. Each is the other's way back.
#
# ## A product of matrices
#
# Nearly all the work of the networks in this book is $y = x\,w$, with shapes $(n, k)$, $(k, m)$ and $(n, m)$. Entry by
# entry it is sums and products, so we can follow the paths. The entry $x_{ik}$ is multiplied by every $w_{kj}$ in row *k*
# of $w$, and the product ends in $y_{ij}$:
#
# $$y_{ij} = \sum_k x_{ik} w_{kj} \qquad \text{slope in } x_{ik} = \sum_j g_{ij}\, w_{kj} = (g\,w^T)_{ik}$$
#
# In the same way the slope in $w_{kj}$ collects $g_{ij}$ from every row *i* that used it: $\sum_i x_{ik}\, g_{ij} =
# (x^T g)_{kj}$. If you forget which is which, the shapes remind you: from $g$, $(n, m)$, and $w$, $(k, m)$, there is one
# product that gives $(n, k)$.


# %%
def matmul(x, w):  # (n, k) @ (k, m) -> (n, m)
    return x @ w, lambda g: (g @ w.T, x.T @ g)


rng = np.random.default_rng(0)
x, w, g = (rng.standard_normal(s) for s in ((3, 4), (4, 2), (3, 2)))
g_x, g_w = matmul(x, w)[1](g)
J_x = jacobian(lambda v: (v.reshape(3, 4) @ w).reshape(-1), x.reshape(-1))  # (6, 12)
J_w = jacobian(lambda v: (x @ v.reshape(4, 2)).reshape(-1), w.reshape(-1))  # (6, 8)
print(np.allclose(g_x.reshape(-1), g.reshape(-1) @ J_x), g_x.shape)
print(np.allclose(g_w.reshape(-1), g.reshape(-1) @ J_w), g_w.shape)

# %% [markdown]
# Often one `w` serves several images at once: `x` is `(2, 5, 3)`, two images of five rows each, `w` is `(3, 4)`, and on the
# way back the slopes from both images meet in it. That is the second exercise,
# [`matmul_vjp`](../exercises/ch03.py#matmul_vjp) (★★, 20 minutes).


# %% tags=["your-turn"]
def matmul_vjp(g, a, b):  # a (…, n, k), b (k, m), g (…, n, m) -> (da, db)
    ...


check("matmul_vjp", matmul_vjp)

# %% [markdown]
# We said that we never build the tables. For once, let us look at some.

# %%
flat = np.arange(12.0) / 12
tables = {
    "exp": jacobian(np.exp, flat),
    "x + b, in b": jacobian(lambda b: (x + b).reshape(-1), np.zeros(4)),
    "x @ w, in x": J_x,
    "x.T": jacobian(lambda v: v.reshape(3, 4).T.reshape(-1), flat),
}
fig, axes = plt.subplots(1, 4, figsize=(8.8, 2.8), layout="constrained")
for ax, (title, table) in zip(axes, tables.items(), strict=True):
    ax.imshow(np.abs(table) > 1e-6, cmap="Greys")
    ax.set(title=title, xlabel="inputs", ylabel="outputs", xticks=[], yticks=[])
shares = [f"{name} {100 * (abs(t) > 1e-6).mean():.0f} %" for name, t in tables.items()]
mv.viz.show(fig, f"Four Jacobians, entries not zero: {', '.join(shares)}.")

# %% [markdown]
# *Where the Jacobians of four operations, on a `(3, 4)` array, are not zero (black). A diagonal; identities stacked, and
# a sum over rows is what undoes that; a block for each row; a reordering. The larger the arrays, the emptier the
# tables.*
#
# ## Indexing, backwards
#
# `x[[0, 2, 2, 2]]` takes row 0 once and row 2 three times. You know what that means: on the way back three slopes meet
# in row 2. In code one would start from zeros and add. **What does this leave in `slopes`?**

# %% tags=["hide-output"]
index, g = np.array([0, 2, 2, 2]), np.ones(4)
guess = ...  # three numbers
slopes = np.zeros(3)
slopes[index] += g
print(slopes)

# %% [markdown]
# One, zero, one. `slopes[index] += g` means `slopes[index] = slopes[index] + g`: all four old values are fetched first,
# and then four new ones are written, three of them into the same place. The last wins. No error, and a gradient that is
# right whenever no index repeats, which is what a quick test tends to try.
#
# NumPy has a function that adds one after another: `np.add.at(slopes, index, g)`. With it, third exercise:
# [`take_vjp`](../exercises/ch03.py#take_vjp) (★★, 12 minutes).


# %% tags=["your-turn"]
def take_vjp(g, x, index):  # y = x[index]; x (rows, d), g (n, d) -> (rows, d)
    ...


check("take_vjp", take_vjp)

# %% [markdown]
# ## The referee
#
# By now there are several vjps, and any could be wrong. Small steps are the referee, as in chapter 02, but with arrays
# there is a catch. Below is `x.T` with an honest vjp and one that lies: `reshape` has the right shape and, as
# chapter 01 showed, the wrong order. We check both twice, with `g` all ones, which is the gradient of `y.sum()`, and
# with `g` drawn at random. **Is the liar caught both times?**


# %% tags=["hide-output"]
def honest(x):
    return x.T, lambda g: (g.T,)


def liar(x):
    return x.T, lambda g: (g.reshape(x.shape),)


def agrees(operation, x, g):
    def f(v):
        return operation(v.reshape(x.shape))[0].reshape(-1)

    measured = g.reshape(-1) @ jacobian(f, x.reshape(-1))
    return np.allclose(operation(x)[1](g)[0].reshape(-1), measured)


guess = ...  # "both times", or only with which g?
for name, g in (("ones", np.ones((4, 3))), ("random", rng.standard_normal((4, 3)))):
    passes = agrees(honest, x, g), agrees(liar, x, g)
    print(f"g {name:6}: honest passes {passes[0]}, liar passes {passes[1]}")

# %% [markdown]
# With ones the lie passes: a table of ones looks the same in any order. Symmetric inputs hide mistakes, so a referee
# draws its `g` at random. That is the last exercise: six vjps, two of them lie, and you have nothing but calls.
# [`which_vjp_lies`](../exercises/ch03.py#which_vjp_lies) (★★, 15 minutes).


# %% tags=["your-turn"]
def which_vjp_lies(suspects):  # name -> (f, vjp); f(x), vjp(x, g) -> slopes of x
    ...  # a set of two names


check("which_vjp_lies", which_vjp_lies)

# %% [markdown]
# ## An array that remembers
#
# Each operation returns its value and its vjp; what is missing is the memory. In chapter 02 every method of `Number` wrote
# down parents and slopes for itself. Now all operations look alike, so one function can do it for all: it takes an
# operation on plain arrays and makes of it an operation on arrays that remember. Python calls such a function a
# **decorator**, and `@my_op` above a definition applies it.


# %%
class Remembering:
    def __init__(self, data, parents=(), vjp=None):
        self.data, self.parents, self.vjp = data, parents, vjp
        self.grad = None


def my_op(function):
    def call(*operands):
        value, vjp = function(*(operand.data for operand in operands))
        return Remembering(value, operands, vjp)

    return call


# %% [markdown]
# Where `Number` had slopes, this has a vjp. The walk back is chapter 02's, with its three lessons: a topological order,
# sums over paths, and nothing kept between the leaves and the loss. If you have not solved its exercises yet, here is one
# solution of each.


# %%
def visit(node, order):
    if node not in order:
        for parent in node.parents:
            visit(parent, order)
        order.append(node)
    return order


def my_backward(result):
    slopes = {result: np.ones_like(result.data)}
    for node in reversed(visit(result, [])):
        g = slopes.pop(node)  # nothing interior stays
        if node.vjp is None:
            node.grad = g
            continue
        for parent, part in zip(node.parents, node.vjp(g), strict=True):
            slopes[parent] = slopes.get(parent, 0) + part


# %% [markdown]
# Now the program for 3s and 8s: three more operations, one of them used twice, and the one that we have, `matmul`.


# %%
@my_op
def add(a, b):
    return a + b, lambda g: (unbroadcast(g, a.shape), unbroadcast(g, b.shape))


@my_op
def tanh(x):
    t = np.tanh(x)
    return t, lambda g: (g * (1 - t * t),)


@my_op
def mean_square(x):
    return (x * x).mean(), lambda g: (g * 2 * x / x.size,)  # each is one of x.size


start = 0.1 * np.random.default_rng(0).standard_normal((64, 1))
w, b = Remembering(start), Remembering(np.zeros(1))
answer = tanh(add(my_op(matmul)(Remembering(X), w), b))  # (n, 64) -> (n, 1)
my_backward(mean_square(add(answer, Remembering(-y))))
print("slopes of w", w.grad.shape, "and of b", b.grad.shape)

# %% [markdown]
# Five results where there were 33,000 numbers, and 65 slopes from one walk. minivit is built in this way: its
# [`op`](../minivit/engine/tensor.py#op) is our decorator, its [`ops.py`](../minivit/engine/ops.py) a list of such pairs,
# and `Tensor` has a method or a sign for each: `x @ w`, `x + b`, `x.tanh()`. The same program with it; an array that is
# `float64` stays so.

# %% tags=["check"]
w_t = mv.Tensor(start, requires_grad=True)
b_t = mv.Tensor(np.zeros(1), requires_grad=True)
error = (mv.Tensor(X) @ w_t + b_t).tanh() - y
loss = (error * error).mean()
loss.backward()
print(loss)
print("same:", np.allclose(w.grad, w_t.grad), np.allclose(b.grad, b_t.grad))

# %% [markdown]
# So we retire ours. Have a look at [`ops.py`](../minivit/engine/ops.py) now: `exp, log, sqrt, tanh, maximum, where,
# matmul` and their kin, value and vjp side by side, and you can read every one of these. Two things are different there. Each
# function takes a first argument `xp`, which is NumPy here and CuPy on a GPU, and `@op` checks what it is given and what
# it gets. Here we add an operation of our own, and forget something.


# %% tags=["break"]
@mv.op
def stretch(xp, x, s):  # (n, d) * (d,), each column by its own factor
    return x * s, lambda g: (g * s, g * x)


x_t = mv.Tensor(rng.standard_normal((3, 4)), requires_grad=True)
s_t = mv.Tensor(np.ones(4), requires_grad=True)
try:
    stretch(x_t, s_t).sum().backward()
except mv.ShapeError as error:
    print(type(error).__name__, error)

# %% [markdown]
# It even guesses what we forgot. But shapes cannot catch everything. Suppose that a weight is square, `(3, 3)`, and
# someone writes `g @ w` for `g @ w.T`: every shape fits. minivit's referee is
# [`gradcheck`](../minivit/engine/gradcheck.py#gradcheck). It draws `g` at random, turns each entry of each array a little,
# and reports.


# %% tags=["break"]
@mv.op
def square_matmul(xp, x, w):
    return x @ w, lambda g: (g @ w, x.T @ g)


arrays = rng.standard_normal((2, 3, 3))
print("minivit's:", mv.gradcheck(mv.matmul, *arrays).count("ok"), "arrays ok")
try:
    mv.gradcheck(square_matmul, *arrays)
except mv.GradientError as error:
    print(type(error).__name__)
    for line in str(error).splitlines():
        print(line if "WRONG" in line else line.partition(", worst")[0])

# %% [markdown]
# The report has a line for each array, and for a wrong one its worst entry: what the vjp claims, what small steps say,
# and their ratio. The ratio is a clue. A steady 2 or 1/*n* is a forgotten factor, −1 a sign. Here it is nothing in
# particular and differs from entry to entry: a wrong path.
#
# Every operation of minivit is held to this in the tests, and so will be every derivation of this book.
#
# ## Sixty-five dials
#
# Now the 3s and 8s, with all pixels. We start from small random dials. A step changes the arrays in place, outside of the
# notes; and since leaves add up, as chapter 02 wanted, `zero_grad` empties them for the next walk.


# %%
def fit(features, steps=100, rate=0.5, seed=0):  # features (n, m)
    start = 0.1 * np.random.default_rng(seed).normal(size=(features.shape[1], 1))
    w, b = (mv.Tensor(a, requires_grad=True) for a in (start, np.zeros(1)))
    losses = []
    for _ in range(steps):
        error = (mv.Tensor(features) @ w + b).tanh() - y  # (n, m) -> (n, 1)
        loss = (error * error).mean()
        loss.backward()
        losses.append(loss.item())
        for dial in (w, b):
            dial.data -= rate * dial.grad
            dial.zero_grad()
    return w, b, losses


w, b, losses = fit(X)
print(f"loss {losses[0]:.3f}, after 99 steps {losses[-1]:.3f}")

# %% [markdown]
# The same function fits one feature or sixty-four; only the shape of `w` differs. So let the program of chapter 02 run
# beside it, with nothing but the ink of the left half.

# %%
ink = X.reshape(-1, 8, 8)[:, :, :4].mean(axis=(1, 2))[:, None]  # (n, 64) -> (n, 1)
_, _, ink_losses = fit(ink / ink.std())
fig, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
ax.plot(ink_losses, "--", color=mv.viz.VERMILLION, label="2 dials: ink on the left")
ax.plot(losses, color=mv.viz.BLUE, label="65 dials: all pixels")
ax.set(xlabel="step", ylabel="loss", ylim=(0, None))
ax.legend(frameon=False)
mv.viz.show(
    fig,
    alt=f"Line chart: loss against step, 0 to {len(losses) - 1}. With 2 dials it levels "
    f"out at {ink_losses[-1]:.2f}, with 65 it falls to {losses[-1]:.2f}.",
)

# %% [markdown]
# *Loss on 250 images, one start each. With a single number an image there is a floor that no setting of two dials goes
# below; with the pixels none is in sight. A low loss on the images that were learned from is not yet the ability to read
# others.*
#
# So we also ask 35 images that the program has never seen. Answers need no notes; `no_grad` switches them off.

# %%
val = mv.data.digits().val
unseen = np.isin(val.labels, [3, 8])
others = val.images[unseen].reshape(-1, 64) / 255 - middle
their_y = np.where(val.labels[unseen] == 8, 1.0, -1.0)[:, None]


def right(images, labels, w, b):  # percent of answers with the label's sign
    with mv.no_grad():
        answers = mv.Tensor(images) @ w + b
    return 100 * (answers.numpy() * labels > 0).mean()


for name, steps in (("before", 0), ("after", 100)):
    runs = [fit(X, steps, seed=seed)[:2] for seed in range(10)]
    known = [right(X, y, *run) for run in runs]
    new = [right(others, their_y, *run) for run in runs]
    print(f"{name:6} {n} known: {min(known):.1f} to {max(known):.1f} %", end=", ")
    print(f"{len(others)} others: {min(new):.1f} to {max(new):.1f} %")

# %% [markdown]
# Ten starts, the worst and the best. Small random dials answer at random, at times mostly wrong or, what is the same
# turned round, mostly right. A hundred steps later the start no longer shows. By ink it was 86 %. Of the new images, one
# of 35 is read wrong, and one is too few to say more; chapter 04 asks what kind of "new" they are.
#
# What is in the 64 dials? They lie over the image like the pixels do. Two controls stand beside them: the dials before
# learning, and what needs no learning at all, the average 8 minus the average 3.

# %%
difference = X[y[:, 0] > 0].mean(axis=0) - X[y[:, 0] < 0].mean(axis=0)
panels = {"average 8 − average 3": difference, "dials before": fit(X, steps=0)[0].data}
panels["dials after 100 steps"] = w.data
fig, axes = plt.subplots(1, 3, figsize=(8, 2.9), layout="constrained")
for ax, (title, values) in zip(axes, panels.items(), strict=True):
    table, top = values.reshape(8, 8), np.abs(values).max()
    ax.imshow(table, cmap="PuOr", vmin=-top, vmax=top)
    for (i, j), value in np.ndenumerate(table):
        if abs(value) > 0.4 * top:
            mark, shade = "−+"[int(value > 0)], "kw"[int(abs(value) > 0.7 * top)]
            ax.text(j, i, mark, color=shade, ha="center", va="center")
    ax.set(title=title, xticks=[], yticks=[])
alike = [np.corrcoef(difference, v.ravel())[0, 1] for v in panels.values()]
alt = "Three 8×8 maps. Correlation with average 8 minus average 3: dials before "
mv.viz.show(fig, alt + f"learning {alike[1]:.2f}, after 100 steps {alike[2]:.2f}.")

# %% [markdown]
# *Each map in its own scale; "+" where ink speaks strongly for an 8, "−" for a 3. Learning turned noise into something
# close to the difference of averages, but not the same: descent lowers the loss and knows nothing of averages. A dial says
# how a pixel enters the sum, not that it matters.*
#
# ## What we left out
#
# Operations with several outputs (ours have one, and that is enough). Slopes of slopes. What must be kept from the way
# there for the way back, which is most of the memory of training; one can keep less and compute it again. And each of our
# operations makes new arrays, where one written for speed would reuse them: [`fused.py`](../minivit/engine/fused.py) does
# that, and chapter 11 measures it.
#
# **Further reading.** Maclaurin, Duvenaud and Adams, *Autograd: effortless gradients in NumPy* (2015), where pairs like
# ours come from. Parr and Howard, *The matrix calculus you need for deep learning* (2018), with the Jacobians drawn.
# Giles, *Collected matrix derivative results for forward and reverse mode* (2008), when you need one that is not here.
#
# ## In three sentences
#
# On the way back through an operation, the slopes of its output become slopes of its inputs, and for that one needs a
# vjp, never the table of all slopes. A copied value gets a sum and a sum is copied back, whether the copying was done by
# broadcasting, by a product of matrices or by a repeated index; and a referee with random `g` finds who forgot it. So
# with arrays it is as it was with numbers: an array that remembers holds its parents and one function, and 65 dials or 86
# million learn by the same walk.
#
# **From earlier chapters**: we made `y` a column, `(n, 1)`. What would `error` have been, and what would the program have
# learned, with `y` of shape `(n,)` (01)? `gradcheck` steps by a millionth. Why not by $10^{-12}$ (02)?
#
# **To leave with**: `x` is `(5, 3)`. What is the vjp of `x.mean(axis=0)`, in one line? And of `x - x.mean(axis=0)`?

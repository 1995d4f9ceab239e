# ---
# jupyter:
#   minivit:
#     title: What is a gradient?
#     question: How does a program learn?
#     here: [loss, gradients]
#     minutes: 45
#     exercises: [numerical_grad, topo_order, backward]
#     builds: [Tensor]
# ---

# %% [markdown]
# A 3 is open on the left, an 8 is closed. So the ink in the left half of the image should tell them apart: much ink, an
# 8; little ink, a 3. How much is much? We could try values until one looks good. In this chapter a program finds out by
# itself, in the way in which every network in this book learns.
#
# We take all the 3s and 8s among the training images of the digits. Of each we keep one number `x`, the ink of its left
# half between 0 and 1, and the answer `y` that we want, its **label**: −1 for a 3, +1 for an 8.

# %%
import math

import matplotlib.pyplot as plt
import numpy as np

import minivit as mv

train = mv.data.digits().train
chosen = np.isin(train.labels, [3, 8])
images = train.images[chosen, :, :, 0] / 255  # (n, 8, 8), float64
x = images[:, :, :4].mean(axis=(1, 2))  # (n, 8, 4) -> (n,)
y = np.where(train.labels[chosen] == 8, 1.0, -1.0)  # (n,)
n = len(x)
print(f"{n} images, {(y > 0).sum()} of them 8s; ink {x.mean():.3f} on average")
print(f"the first: ink {x[0]:.3f}, label {y[0]:+.0f}")

# %% [markdown]
# Does the idea work at all? First the 3 and the 8 of our five digits, then all 250 images, each as one dot: its ink to
# the right, 3s in the lower row, 8s in the upper one, shaken up and down a little so that they do not hide each other.

# %%
two = mv.data.digits().test.images[[1, 4], :, :, 0] / 255
captions = [f"left: {half.mean():.2f}" for half in two[:, :, :4]]
mv.viz.show(mv.viz.pictures(two, captions, tile=1.3))


def draw_dots(ax):
    shaken = y + np.random.default_rng(0).uniform(-0.25, 0.25, n)
    ax.plot(x[y < 0], shaken[y < 0], "o", color=mv.viz.BLUE, alpha=0.5)
    ax.plot(x[y > 0], shaken[y > 0], "^", color=mv.viz.VERMILLION, alpha=0.5)
    ax.set(xlabel="ink of the left half", yticks=[-1, 1], yticklabels=["3", "8"])


fig, ax = plt.subplots(figsize=(6.4, 2.2), layout="constrained")
draw_dots(ax)
means = f"{x[y < 0].mean():.2f} for 3s and {x[y > 0].mean():.2f} for 8s"
mv.viz.show(fig, f"Dot plot of ink in the left half, {n} images: mean {means}.")

# %% [markdown]
# *Each dot an image. The clouds stand apart but overlap: no threshold gets all of them right, and one near 0.28 should
# get most.*
#
# Our program has two dials, `w` and `b`, and answers $t = \tanh(w\,x + b)$: a number between −1 and 1, negative for "a
# 3". The curve $\tanh$ is a soft step; `b` moves it and `w` makes it steep. The answer changes sign where $x = -b/w$,
# which is the threshold.
#
# How wrong is an answer? We take the square of its distance from the label, averaged over all images. A number that says
# how wrong a program is, given its dials, is a **loss**.


# %%
def landscape(x, ws, bs):  # the loss at every setting of two dials
    w, b = ws[:, None], bs[:, None, None]
    t = np.tanh(w * x + b)  # (bs, ws, n)
    return ((t - y) ** 2).mean(axis=-1)  # (bs, ws)


ws, bs = np.linspace(-2, 30, 161), np.linspace(-9, 2, 111)
losses = landscape(x, ws, bs)
i, j = np.unravel_index(losses.argmin(), losses.shape)
lowest = np.array([ws[j], bs[i]])
print(f"{losses.size:,} settings; lowest loss {losses.min():.3f}", end=" ")
print(f"at w = {ws[j]:.1f}, b = {bs[i]:.1f}: threshold {-bs[i] / ws[j]:.3f}")

# %% [markdown]
# With two dials we can try 17,871 settings and take the best. The Vision Transformer of the paper has 86 million dials in
# its base size (Table 1 there). There we need to be told, from where the dials stand, which way to turn each.
#
# ## Turn it a little
#
# Turn a dial by a small amount *h* and watch the loss: the change, divided by *h*, is the **slope** in that dial. It is
# fairer to look both ways:
#
# $$\text{slope} \approx \frac{f(w + h) - f(w - h)}{2h}$$
#
# Calculus calls the limit for ever smaller *h* the derivative. So, on a function whose slope we know, $w^3$ with its
# $3w^2$: **which *h* comes closest, a thousandth, a hundred-thousandth, or $10^{-12}$?**


# %% tags=["hide-output"]
def measured(f, at, h):
    return (f(at + h) - f(at - h)) / (2 * h)


guess = ...  # 1e-3, 1e-5 or 1e-12
steps = [0.5**k for k in range(2, 50)]
errors = [abs(measured(lambda w: w * w * w, 0.7, h) - 3 * 0.7 * 0.7) for h in steps]
fig, ax = plt.subplots(figsize=(6.4, 3), layout="constrained")
ax.loglog(steps, np.maximum(errors, 1e-16), "o-", color=mv.viz.BLUE, ms=4)
ax.set(xlabel="step h", ylabel="error of the slope")
best = int(np.argmin(errors))
alt = f"Line chart, both axes logarithmic: error against step. {errors[0]:.0e} at "
alt += f"h = {steps[0]}, least, {errors[best]:.0e}, at {steps[best]:.0e}, and "
mv.viz.show(fig, alt + f"{errors[-1]:.0e} at {steps[-1]:.0e}: a V.")

# %% [markdown]
# *Error of the slope of $w^3$ at 0.7, against the step. It falls to the left, then climbs again: a V. Where its point
# lies depends on the function; that there is one does not.*
#
# The smallest step is among the worst. From the right, the error shrinks a hundredfold when *h* shrinks tenfold, because
# the curve bends less between the two points. Then rounding takes over: `f(w + h)` and `f(w - h)` agree in nearly all
# of their sixteen digits, the difference keeps what is left, and dividing by a tiny *h* magnifies what rounding did to
# it. So *h* is about a hundred-thousandth, and `float64` is needed.
#
# Your first exercise does it for a whole array of dials: [`numerical_grad`](../exercises/ch02.py#numerical_grad) (★, 10
# minutes).

# %% tags=["your-turn"]
from exercises import check


def numerical_grad(f, x, eps=1e-4):  # f: array -> number; the result has x's shape
    ...


check("numerical_grad", numerical_grad)

# %% [markdown]
# This works for any program at all, and it is the referee of everything that follows. But it is a poor way to learn: each
# dial has to be turned, alone, there and back, with two runs of the program for each. We want all slopes from one run.
#
# ## By hand, once
#
# Take one image with ink 0.5 and label +1, and dials at 2 and −0.5. We write the program in steps so small that calculus
# knows the slope of each: $\tanh$, for one, has slope $1 - t^2$ where its value is $t$. Then we walk back from the loss and
# ask at every step: how much does the *loss* change when this number changes? The loss is $e \cdot e$, so in $e$ its slope
# is $2e$.

# %%
w, b, ink, label = 2.0, -0.5, 0.5, 1.0
p = w * ink
s = p + b
t = np.tanh(s)
e = t - label
loss = e * e

d_e = 2 * e  # d_e is the slope of the loss in e
d_t = d_e * 1  # e moves as much as t
d_s = d_t * (1 - t * t)  # the slope of tanh
d_b = d_s * 1
d_p = d_s * 1
d_w = d_p * ink  # p moves ink times as much as w
small = measured(lambda w: (np.tanh(w * ink + b) - label) ** 2, w, 1e-5)
print(f"loss {loss:.4f}, slope in b {d_b:.4f}, in w {d_w:.4f}; measured {small:.4f}")

# %% [markdown]
# One walk back, and both slopes are there. The **chain rule** is all that we used: along a path, slopes multiply. Turn
# `w` by a little and `p` moves half as much; `s` moves as `p` does; `t` moves $1 - t^2$ times as much as `s`; and so on
# to the loss.
#
# Nothing in this needs us. A machine can note down, while it computes, what each number was made from and with which
# slopes, and walk back over its notes. The notes, in the order in which they were made, are called a **tape**.

# %%
tape = []


class Number:
    def __init__(self, value, parents=(), slopes=()):
        self.value, self.parents, self.slopes = value, parents, slopes
        self.grad = 0.0  # the slope of the loss in this number, once we know it
        tape.append(self)

    def __add__(self, other):
        return Number(self.value + other.value, (self, other), (1.0, 1.0))

    def __sub__(self, other):
        return Number(self.value - other.value, (self, other), (1.0, -1.0))

    def __mul__(self, other):
        slopes = (other.value, self.value)
        return Number(self.value * other.value, (self, other), slopes)


# %% [markdown]
# Each result knows its parents, the numbers it was made from, and for each of them a slope: in a product, the slope
# in one factor is the other factor. A number without parents is a **leaf**: a dial, or data. The soft step is one more
# way to make a number, and with it the program reads like its formula.


# %%
def tanh(a):
    t = math.tanh(a.value)
    return Number(t, (a,), (1 - t * t,))


def mistake(w, b, ink, label):
    error = tanh(w * ink + b) - label
    return error * error


w, b = Number(2.0), Number(-0.5)
mistake(w, b, Number(0.5), Number(1.0))
print("on the tape:", ", ".join(f"{number.value:.3f}" for number in tape))

# %% [markdown]
# First the four leaves, then five results, the loss last. Because a number is noted after its parents, walking the tape
# from its end meets every number before the numbers it was made from.
#
# So: the loss has slope 1 in itself; each number gives every parent its own slope times the slope noted on the way. By hand we
# found −0.4230 for `w`. **Does the walk below find the same?**


# %% tags=["hide-output"]
def walk_back_1(tape):
    tape[-1].grad = 1.0
    for number in reversed(tape):
        for parent, slope in zip(number.parents, number.slopes, strict=True):
            parent.grad = number.grad * slope


guess = ...  # "the same", or what else?
walk_back_1(tape)
print(f"w: {w.grad:.4f}, b: {b.grad:.4f}")

# %% [markdown]
# Half of it. By hand we wrote $2e$; the tape has `error * error`, one number used twice, with slope $e$ each time. The
# second contribution overwrote the first. But both count. Move $e$ by a little $h$:
#
# $$(e + h)(e + h) = e^2 + h\,e + e\,h + h^2$$
#
# The left factor contributes $h\,e$, the right one $e\,h$, and $h^2$ is too small to matter. A number that reaches the
# loss on several paths receives **the sum over its paths**. In the code that is one character, `+=` for `=`.


# %%
def walk_back(tape):
    tape[-1].grad = 1.0
    for number in reversed(tape):
        for parent, slope in zip(number.parents, number.slopes, strict=True):
            parent.grad += number.grad * slope


for number in tape:
    number.grad = 0.0
walk_back(tape)
names = ["w", "b", "ink", "label", "p = w·ink", "s = p + b", "t = tanh s", "e", "loss"]
for name, number in zip(names, tape, strict=True):
    print(f"{name:10} {number.value:7.4f}, slope of the loss {number.grad:7.4f}")

# %% [markdown]
# Now `w` agrees with our hand, and with the small steps. Here is the tape as a picture: an arrow from each parent to what
# was made of it.

# %%
spots = [(0, 5), (1, 0), (0, 1), (3, 0), (1, 3), (2, 2), (3, 3), (4, 1), (5, 1)]
fig, ax = plt.subplots(figsize=(8.8, 3.4), layout="constrained")
arrow = {"arrowstyle": "->", "shrinkA": 22, "shrinkB": 30}
for number, name, (i, j) in zip(tape, names, spots, strict=True):
    for k, parent in enumerate(number.parents):
        u, v = spots[tape.index(parent)]
        bend = (0.4 - 0.8 * k) * (number is tape[-1])
        arrow["connectionstyle"] = f"arc3,rad={bend}"
        ax.annotate("", (i, j), (u, v), arrowprops=arrow)
        at = ((i + u) / 2 - 0.1, (j + v) / 2 + 2 * bend)
        ax.text(*at, f"{number.slopes[k]:.2f}", bbox={"fc": "w", "ec": "w", "pad": 0})
    words = f"{name}\n{number.value:.2f}\n← {number.grad:.2f}"
    ax.text(i, j, words, ha="center", va="center", bbox={"fc": "w"})
ax.set(xlim=(-0.4, 5.4), ylim=(-1, 6), frame_on=False, xticks=[], yticks=[])
mv.viz.show(fig, f"Graph of {len(tape)} boxes; w gets {w.grad:.2f}, b {b.grad:.2f}.")

# %% [markdown]
# *Read it forwards along the arrows: in each box the name and the value. Then backwards: after "←" the slope of the loss
# in that box, which is the slope in the next box times the number on the arrow, summed where two arrows leave. The two
# arrows into the loss are the two uses of `e`.*
#
# ## In which order?
#
# The tape spares us a question. Suppose that we had lost it and held only the result, which knows its parents, and they
# theirs. A natural plan is nearest first: the result, its parents, their parents, each once. We try it on $c + c\,a$
# with $c = a^2$, that is $a^2 + a^3$. At $a = 2$ its slope, $2a + 3a^2$, is 16.

# %%
tape.clear()
a = Number(2.0)
c = a * a
root = c + c * a
queue, root.grad = [root], 1.0
for number in queue:  # nearest first, each once
    for parent, slope in zip(number.parents, number.slopes, strict=True):
        parent.grad += number.grad * slope
        if parent not in queue:
            queue.append(parent)
print("nearest first:", a.grad)

# %% [markdown]
# Half is missing. `c` is a parent of the result, so it was visited early and handed on what it had; what $c \cdot a$
# gave it came later and stayed with it. A number may hand on only when **all** that was made from it has handed to
# it. An order in which parents stand before what is made from them, read backwards, guarantees that: a **topological
# order**. The tape is one. Without a tape it takes a walk into the depth: first everything that a number was made from,
# then the number itself, and nothing twice.
#
# This is your second exercise, [`topo_order`](../exercises/ch02.py#topo_order) (★★, 15 minutes).


# %% tags=["your-turn"]
def topo_order(root):  # a list: parents first, root last
    ...  # a number knows its parents as root.parents


check("topo_order", topo_order)

# %% [markdown]
# ## What must not be kept
#
# Now the right walk, over the tape: it gives 16. Sometimes we walk twice, when two losses share a computation, and want
# the slopes of both added up in the dials. So we walk over the same tape a second time and erase nothing in between.
# The first walk left 16 in `a`. **What will be there after the second: 16, 32, or something else?**

# %% tags=["hide-output"]
for number in tape:
    number.grad = 0.0
guess = ...  # 16, 32 or another number
for walk in (1, 2):
    walk_back(tape)
    print(f"after walk {walk}: a has {a.grad}, c has {c.grad}")

# %% [markdown]
# Adding up is right for `a`, and 32 would have been right. But what lies in between added up too: `c` still held its 3
# from the first walk, and when its turn came handed on 8 where 3 was due. Slopes between the leaves and the loss belong
# to one walk and must be forgotten with it. There is a second reason: in chapter 03 each of them is an array, as large as
# the values it belongs to, and keeping them all costs memory for nothing.
#
# So: the walk keeps its slopes in a dictionary of its own, and at the end hands those of the leaves to the outside. That
# is your third exercise, [`backward`](../exercises/ch02.py#backward) (★★, 15 minutes).


# %% tags=["your-turn"]
def backward(order):  # order: parents first; number.parents, number.slopes
    ...  # a dict: leaf -> slope of order[-1] in that leaf


check("backward", backward)

# %% [markdown]
# ## What did we gain?
#
# Small steps and the walk give the same slopes. It is tempting to conclude that they are the same method, one of them
# better dressed. Count the work. A program with *n* dials, $\tanh(\sum_k w_k x_k)$, makes some quantity of numbers in
# one run. By small steps it runs twice for each dial; with the tape it runs once, and every number is met once more on
# the way back. **For 1,000 dials: how many times more work are small steps? About 2 times, 30, or 1,000?**


# %% tags=["hide-output"]
def numbers_made(dials):
    tape.clear()
    total = Number(0.0)
    for k in range(dials):
        total = total + Number(0.01) * Number(k / dials)
    tanh(total)
    return len(tape)


guess = ...
for dials in (2, 10, 100, 1000):
    run = numbers_made(dials)
    small, walk = 2 * dials * run, 2 * run
    print(f"{dials:5} dials: {small:9,} by small steps, {walk:5,} with the tape")

# %% [markdown]
# A thousand times: one walk costs about as much as one run, however many dials there are. With 86 million dials, small
# steps would need 172 million runs for what one run and one walk give. That is why networks can be large.
#
# ## A program learns
#
# All slopes together, one for each dial, are the **gradient**. Where a slope is positive, turning up makes the loss grow,
# so we turn down, and further where it is steep: from each dial we take away its slope times a small fixed number, the
# rate. Then the same from the new place, over and over.
#
# This is **gradient descent**, and it is all that "learning" means here. One step takes all 250 images; their mistakes
# are added up on one tape.


# %%
def descend(inks, w, b, rate, steps):
    path = []
    for _ in range(steps + 1):
        tape.clear()
        dial_w, dial_b, loss = Number(w), Number(b), Number(0.0)
        for ink, label in zip(inks, y, strict=True):
            loss = loss + mistake(dial_w, dial_b, Number(ink), Number(label))
        loss = loss * Number(1 / n)
        walk_back(tape)
        path.append((w, b, loss.value))
        w, b = w - rate * dial_w.grad, b - rate * dial_b.grad
    return np.array(path)  # (steps + 1, 3): w, b, loss


first = descend(x, 0.0, 1.0, rate=0.5, steps=0)
print(f"answer {math.tanh(1.0):.2f}, loss {first[0, 2]:.3f}, {len(tape):,} numbers")

# %% [markdown]
# We begin at w = 0, b = 1: whatever the ink, the answer is tanh 1, or 0.76, "an 8". The lowest place, as we saw, lies near
# w = 24, b = −6.5. The gradient says how to get lower. **In the first step, does `w` grow, towards 24, or does it
# shrink?**

# %% tags=["hide-output"]
guess = ...  # "grows" or "shrinks"
slow = descend(x, 0.0, 1.0, rate=0.5, steps=200)
for step in (0, 1, 2, 10, 200):
    w, b, loss = slow[step]
    print(f"after {step:3} steps: w {w:6.3f}, b {b:6.3f}, loss {loss:.3f}")

# %% [markdown]
# It shrinks. "Downhill" sounds like "towards the lowest place", but a gradient knows only the ground under its feet. The
# program calls everything an 8; what helps at once is a lower answer for everything, and both dials turned down give
# that. Later it turns round. After 200 steps it is still on its way.
#
# What holds it up? All inks lie near 0.28, so turning `w` by 1 does nearly the same as turning `b` by 0.28: the dials do
# not move different things. We let them: subtract from each ink the mean of all, and divide by their spread. Same
# images, same start, same rate, fewer steps.


# %%
def off_course(path, lowest):  # degrees from the way to the lowest
    step, way = path[1, :2] - path[0, :2], lowest - path[0, :2]
    cosine = step @ way / np.linalg.norm(step) / np.linalg.norm(way)
    return np.degrees(np.arccos(cosine))


mean, spread = x.mean(), x.std()
z = (x - mean) / spread
quick = descend(z, 0.0, 1.0, rate=0.5, steps=30)
w, b = lowest  # w x + b = (w spread) z + (b + w mean), the same step
lowest_z = np.array([w * spread, b + w * mean])
print(f"loss {quick[-1, 2]:.3f} after 30 steps; the first step is", end=" ")
print(f"{off_course(quick, lowest_z):.0f}° off, before {off_course(slow, lowest):.0f}°")

# %% [markdown]
# Thirty steps now reach what two hundred did not. Here are both walks, seen from above.

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.8, 3), width_ratios=[7, 3])
fig.set_layout_engine("constrained")
zs, zb = np.linspace(-0.5, 3, 71), np.linspace(-1.5, 1.5, 61)
panels = ((x, ws, bs, slow, lowest), (z, zs, zb, quick, lowest_z))
for ax, (inks, across, up, path, star) in zip(axes, panels, strict=True):
    levels = [0.46, 0.5, 0.6, 0.8, 1.1, 1.5, 2, 2.5]
    ax.contour(across, up, landscape(inks, across, up), levels)
    ax.plot(path[:, 0], path[:, 1], "o-", color=mv.viz.VERMILLION, ms=3)
    ax.plot(*star, "*", color=mv.viz.INK, ms=12)
    ax.set(xlabel="w", ylabel="b", aspect="equal")
    ax.set_title(f"{len(path) - 1} steps, loss {path[-1, 2]:.3f}")
alt = "Two contour maps of the loss over w and b. Ink as it is: a narrow valley, "
alt += f"{slow[-1, 2]:.3f} after {len(slow) - 1} steps. Ink centred: a wide bowl, "
mv.viz.show(fig, alt + f"{quick[-1, 2]:.3f} after {len(quick) - 1}, near the lowest.")

# %% [markdown]
# *Lines of equal loss (the darker, the lower), the steps of the descent, and a star at the lowest place; left with ink as
# it is, right centred. Both axes of a map have one scale, so angles are true. Left, the first steps cross the valley and
# the rest crawl along its floor; the map does not show how slowly.*
#
# And what did it learn?

# %%
fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
draw_dots(ax)
line = np.linspace(0.12, 0.46, 200)
runs = [("before", slow[0], 0, 1, ":"), ("200 steps", slow[-1], 0, 1, "--")]
runs.append(("30, centred", quick[-1], mean, spread, "-"))
alt = "Dots as before, with curves of the answer against ink. Right: "
for name, (w, b, _), middle, width, style in runs:
    answers = np.tanh(w * (x - middle) / width + b)
    right = f"{name}: {100 * (answers * y > 0).mean():.1f} %"
    curve = np.tanh(w * (line - middle) / width + b)
    ax.plot(line, curve, style, color=mv.viz.INK, label=right)
    alt += f"{right}; "
ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
mv.viz.show(fig, alt[:-2] + ".")

# %% [markdown]
# *The answer against the ink before learning (dotted: an 8 whatever the ink), after 200 steps with ink as it is, and
# after 30 with ink centred; in the legend, how many of these 250 images come out right. They are the images that the
# program learned from; chapter 04 asks about others.*
#
# All three curves were made by the same two dials. The solid one is much lower in loss than the dashed one, and yet two
# images fewer are right: descent lowers the loss, because that has a slope, and counts nothing.
#
# ## From Number to Tensor
#
# minivit's number that remembers is [`Tensor`](../minivit/engine/tensor.py#Tensor). It has no tape: a result knows its
# parents, and the walk finds a [topological order](../minivit/engine/tensor.py#topological_order) by itself, keeps its
# [slopes in a dictionary](../minivit/engine/tensor.py#gradients), and adds up only in leaves that asked for it, in their
# `grad`. Does it agree with our first step?

# %% tags=["check"]
w = mv.Tensor(np.float64(0.0), requires_grad=True)
b = mv.Tensor(np.float64(1.0), requires_grad=True)
loss = mv.Tensor(np.float64(0.0))
for ink, label in zip(x, y, strict=True):
    error = (w * ink + b).tanh() - label
    loss = loss + error * error
loss = loss * (1 / n)
loss.backward()
ours = (slow[0] - slow[1]) / 0.5  # what the first step took from w and b, over the rate
print("same gradient:", np.allclose([w.grad, b.grad], ours[:2]))

# %% [markdown]
# From here on we use `mv.Tensor`. It also refuses the second walk. After `backward()` the notes are thrown away to free
# their memory, and who asks again is told so:

# %% tags=["break"]
try:
    loss.backward()
except mv.GraphError as error:
    print(type(error).__name__, error)

# %% [markdown]
# ## What we left out
#
# Slopes can also be carried forwards, along with the values: good for few dials and many results, the opposite of our
# case. The slope of a slope has its uses; our engine does not offer it, and says so. The loss of a real network has many
# valleys, not one. And a rate that is too high leaps across the valley and up the other side: try `rate=5` with ink as
# it is.
#
# The picture of dials ends somewhere too. A dial on a radio does the same wherever the others stand; ours do not. Each
# slope holds for the present setting of all, and for small turns.
#
# **Further reading.** Baydin and others, *Automatic differentiation in machine learning: a survey* (JMLR 18, 2018), on
# both directions and on confusions with small steps. Griewank, *Who invented the reverse mode of differentiation?*
# (Documenta Mathematica, 2012). Karpathy's [micrograd](https://github.com/karpathy/micrograd), an engine for single
# numbers, read in one sitting.
#
# ## In three sentences
#
# A gradient holds one slope for each dial: how the loss changes when that dial is turned a little, from where all of them
# stand. One run notes how every number was made, and one walk back over the notes, in topological order, multiplying
# along paths and summing over them, finds all slopes together. So a program learns by being told, by one number, how
# wrong it is, and by turning each of its dials against its slope, a little, again and again.
#
# **From earlier chapters**: in `landscape`, which shape has `w * x`, and which `w * x + b`? Which of
# `train.images[chosen]` and `images[:, :, :4]` is a view, which a copy (01)?
#
# **To leave with**: draw the tape of $f = a\,b + a$ at $a = 3$, $b = 2$. How many arrows leave `a`, and what does each
# bring back?

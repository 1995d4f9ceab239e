# ---
# jupyter:
#   minivit:
#     title: Training
#     question: What makes it good?
#     here: [loss, gradients]
#     minutes: 50
#     exercises: [adamw, clip_global_norm]
#     builds: [create, optim, schedule, TrainStep, augment, fit, evaluate, predict, save, load]
# ---

# %% [markdown]
# Chapter 09 ended with a ViT that had learned 32 images by heart. Reading digits that it has never seen is another
# matter, and between the two lies a recipe: an optimiser, a schedule, decay, clipping, changed copies of the images. Recipes
# attract folklore. So we build each ingredient in a few lines, and then leave it out and measure what it was worth.
#
# Some of that takes longer than you want to wait. [scripts/chapter_runs.py](../scripts/chapter_runs.py) did those runs
# once and wrote them down; here we read them.

# %%
import json

import matplotlib.pyplot as plt
import numpy as np

import minivit as mv

digits = mv.data.digits()
x = mv.data.standardise(digits.train.images, digits.mean, digits.std)
labels = digits.train.labels
with open("assets/training_runs.json", encoding="utf-8") as file:
    runs = json.load(file)
print("made by:", runs["command"])

# %% [markdown]
# ## One rate for forty thousand numbers
#
# Plain descent turns every dial by its slope times the same rate. That is right only if the slopes are of one size. Are
# they? We take a ViT with two blocks ([`mv.create`](../minivit/models/presets.py#create) knows the sizes by name), go
# twenty plain steps, and look at all its slopes.

# %%
model = mv.create("vit_digits", depth=2).astype(np.float64)
history = []  # the gradients of twenty steps
for batch in list(mv.data.batches(len(x), 64, seed=0, epoch=0))[:20]:
    model.zero_grad()
    mv.cross_entropy(model(x[batch]), labels[batch]).backward()
    history.append(np.concatenate([p.grad.ravel() for p in model.parameters()]))
    for p in model.parameters():
        p.data -= 0.1 * p.grad
history = np.array(history)  # (20, numbers)
low, middle, high = np.quantile(np.abs(history[-1]), [0.05, 0.5, 0.95])
print(
    f"{history.shape[1]:,} slopes, sizes {low:.1e} (5 %), {middle:.1e}, {high:.1e} (95 %)"
)

# %% [markdown]
# Between the small ones and the large ones lies a factor of about a hundred. A rate that suits the large ones leaves the small
# ones where they are.
#
# **Adam** (Kingma and Ba, 2015) gives each number its own measure. It keeps two running averages: $m$ of the slope, which
# smooths out what batches disagree about, and $v$ of its square, so that $\sqrt v$ is the slope's usual size. The step is
# $m / \sqrt v$ times the rate.
#
# Both begin empty, and that needs care. With $\beta_1 = 0.9$, $\beta_2 = 0.999$ and a first slope of 3: $m = 0.1 \cdot 3$,
# $v = 0.001 \cdot 9$, and $m / \sqrt v = 0.3 / 0.095 = 3.16$, three times too long. After $t$ steps $m$ is
# $1 - \beta_1^t$ full, so we divide by that: $\hat m = 3$, $\hat v = 9$, step 1.


# %%
def my_adam(p, g, m, v, t, rate, b1=0.9, b2=0.999, eps=1e-8):  # arrays; m, v, p change
    m += (1 - b1) * (g - m)
    v += (1 - b2) * (g * g - v)
    m_hat, v_hat = m / (1 - b1**t), v / (1 - b2**t)
    p -= rate * m_hat / (np.sqrt(v_hat) + eps)


mine, m, v = np.zeros(history.shape[1]), *np.zeros((2, history.shape[1]))
theirs = mv.nn.Parameter(np.zeros(history.shape[1]))
adam = mv.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.999), weight_decay=0)
for t, g in enumerate(history, start=1):
    before = mine.copy()
    my_adam(mine, g, m, v, t, rate=0.01)
    adam.step([g])
print("as mv.optim.AdamW:", np.allclose(mine, theirs.numpy(), rtol=1e-10))

# %% [markdown]
# From here on it is [`mv.optim.AdamW`](../minivit/training/optim.py#AdamW); what the W stands for comes below. Twenty slopes
# went into it for each number. How long were the steps that came out?

# %%
steps = np.abs(mine - before) / 0.01  # the last step, in units of the rate
fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.9), layout="constrained", sharey=True)
bins = np.logspace(-6, 1, 57)
axes[0].hist(np.abs(history[-1]), bins, color=mv.viz.BLUE)
axes[1].hist(steps, bins, color=mv.viz.VERMILLION)
axes[0].set(xscale="log", xlabel="size of a slope", ylabel="numbers")
axes[1].set(xscale="log", xlabel="length of Adam's step / rate")
spans = [np.quantile(a, [0.25, 0.75]) for a in (np.abs(history[-1]), steps)]
words = " and ".join(f"{a:.1g} to {b:.1g}" for a, b in spans)
mv.viz.show(
    fig,
    alt=f"Two histograms, logarithmic: sizes of slopes, and lengths of Adam's steps "
    f"divided by the rate. Their middle halves span {words}.",
)

# %% [markdown]
# *All 39,610 numbers at once. Left: sizes of their slopes, over four powers of ten. Right: what Adam makes of them; nearly all
# steps lie between a hundredth of the rate and the rate. Short steps belong to numbers whose slope keeps changing its sign.*
#
# Now suppose that somebody sums the loss over the batch where we take the mean: every slope becomes 64 times larger. **What
# happens to Adam's steps, and to plain descent's?** And then: if Adam finds its own measure, does it still need us to choose
# a rate?

# %% tags=["hide-output"]
guess = ...  # for Adam, for plain descent; and "yes" or "no"
for name, make in (("plain", mv.optim.SGD), ("Adam ", mv.optim.AdamW)):
    for factor in (1, 64):
        p = mv.nn.Parameter(np.zeros(history.shape[1]))
        optimizer = make([p], lr=0.01, weight_decay=0)
        for g in history:
            optimizer.step([factor * g])
        print(
            f"{name} slopes × {factor:2}: moved by {np.abs(p.numpy()).mean():.6f} on average"
        )

# %% [markdown]
# Plain descent goes 64 times as far; Adam's steps are what they were. So the size of a slope no longer decides how far a
# number moves. What does? Look at the left-over factor in the formula: the rate, and nothing else. A number moves by up to
# one rate a step, whether that is sensible or not. "Adam needs no learning rate" has it backwards.
#
# One rate after another, everything else the same, seed 0, thirty epochs of the digits, with our two blocks. **Within which
# range is AdamW's accuracy at most two points below its best: a factor of 3, of 30, of 300?**

# %% tags=["hide-output"]
guess = ...
fig, ax = plt.subplots(figsize=(6.4, 3), layout="constrained")
ends = []
for name, style in (("adamw", "o-"), ("sgd", "s--")):
    tried = [run["rate"] for run in runs["rates"]["runs"][name]]
    right = [
        100 * run["scores"]["test_accuracy"] for run in runs["rates"]["runs"][name]
    ]
    ax.semilogx(tried, right, style, label={"adamw": "AdamW", "sgd": "SGD"}[name])
    ends.append(f"{max(right):.1f} % at {tried[int(np.argmax(right))]:g}")
    print(name, [f"{a:g}: {r:.1f}" for a, r in zip(tried, right, strict=True)])
ax.set(xlabel="learning rate", ylabel="test images right (%)")
ax.legend(frameon=False)
words = f"AdamW is best with {ends[0]}, SGD with momentum with {ends[1]}."
mv.viz.show(
    fig, alt=f"Two lines of accuracy against learning rate, 0.0001 to 1. {words}"
)

# %% [markdown]
# *Accuracy against the rate. Both have a peak, about as narrow; Adam's lies further left. One seed; where a point lies
# exactly is chance, that there is a peak is not.*
#
# A factor of a few, not thirty. What Adam buys is not freedom from the rate but one rate for all its numbers, and that
# rates travel: 0.001 to 0.003 suits many models, where plain descent must be asked anew each time. (Its SGD here has
# momentum, a running average like $m$. A ViT trained by plain descent gets nowhere in this time.)
#
# ## Decay is not a gradient
#
# Large weights make for steep functions. **Weight decay** shrinks each weight by a fixed share at every step, unless its
# slope holds against it. The older way adds $\lambda p$ to the slope, as if the loss contained $\tfrac\lambda2 p^2$; it is called
# L2, and in plain descent the two are the same line of algebra. In Adam?
#
# 400 weights start at 1. The slopes are pure noise, with mean 0: of size 10 for half of the weights, 0.1 for the other half. Nothing
# pulls them but the decay. **After 2,000 steps of Adam with L2, which half is nearer to 0? And with the decay kept apart?**

# %% tags=["hide-output"]
guess = ...  # "large slopes", "small slopes" or "both alike", twice
for how in ("L2 in the slope", "decay apart"):
    rng, decay = np.random.default_rng(0), 0.5
    w = mv.nn.Parameter(np.ones((2, 200)))  # row 0: large slopes, row 1: small ones
    apart = decay if how == "decay apart" else 0
    adam = mv.optim.AdamW([w], lr=0.001, weight_decay=apart)
    for _ in range(2000):
        slope = rng.standard_normal((2, 200)) * np.array([[10.0], [0.1]])
        adam.step([slope + (decay - apart) * w.numpy()])
    large, small = w.numpy().mean(axis=1)
    print(f"{how:15}: mean weight {large:.2f} (large slopes), {small:.2f} (small)")

# %% [markdown]
# Inside the slope, the decay is divided by $\sqrt v$ with everything else: weights with large slopes hardly feel it, weights with small
# ones are wiped out. Apart, all shrink alike, by $(1 - 0.001 \cdot 0.5)^{2000} \approx e^{-1}$. That separation is the W
# (Loshchilov and Hutter, 2019). minivit lets only matrices decay, [not biases, norms and positions](../minivit/training/optim.py#decays).
#
# *Your turn* ([`adamw`](../exercises/ch10.py#adamw), ★★, 20 minutes): several steps of the whole, without changing `p`.


# %% tags=["your-turn"]
from exercises import check


def adamw(
    p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05
): ...  # gradients (n, …), one for each step -> the parameter afterwards


check("adamw", adamw)

# %% [markdown]
# ## Up, down, and never too far
#
# The first steps are the worst informed: $v$ knows one batch. So the rate climbs in a line from 0, the **warm-up**. The last
# steps jitter round the valley's floor, since each batch points elsewhere. So the rate falls, here along half a cosine.


# %% tags=["check"]
def my_warmup_cosine(step, peak, steps, warmup):
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    done = (step - rising) / (steps - rising)  # 0 to 1
    return peak * (1 + np.cos(np.pi * done)) / 2


rate = mv.schedule.warmup_cosine(0.003, steps=600, warmup=0.1)
print([round(rate(k), 5) for k in (0, 30, 59, 60, 195, 330, 465, 599)])
same = all(
    np.isclose(rate(k), my_warmup_cosine(k, 0.003, 600, 0.1)) for k in range(600)
)
print("ours is mv.schedule.warmup_cosine:", same)

# %% [markdown]
# Sixty steps up, 540 down. From here on we take
# [`warmup_cosine`](../minivit/training/schedule.py#warmup_cosine).
#
# One batch in a thousand has a slope that is far too steep, and one such step can undo an hour. **Clipping** measures the
# length of all gradients together, and if it exceeds a limit shortens them all by one factor. Two gradients of lengths 3 and 4 have
# the common length 5; with the limit 1 they become 0.6 and 0.8. Shortened each for itself, both would become 1, and the
# step would point elsewhere.
#
# *Your turn* ([`clip_global_norm`](../exercises/ch10.py#clip_global_norm), ★, 8 minutes).


# %% tags=["your-turn"]
def clip_global_norm(gradients, limit):  # a list of arrays; None where there is none
    ...  # return the list of new gradients, and the norm before


check("clip_global_norm", clip_global_norm)

# %% [markdown]
# [`mv.TrainStep`](../minivit/training/step.py#TrainStep) puts one step together: forward, backward, clip, update. And if we forget
# the schedule and the clipping, and write a rate of 1,000 for 0.001?

# %% tags=["break"]
model = mv.create("vit_digits", depth=2)
step = mv.TrainStep(model, mv.optim.SGD(model.parameters(), lr=1000), workers=1)
try:
    with np.errstate(all="ignore"):  # NumPy warns of each overflow
        for batch in mv.data.batches(len(x), 64, seed=0, epoch=0):
            print(f"{step(x[batch], labels[batch]):.0e}", end="  ")
except mv.NonFiniteError as error:
    print(f"\n{type(error).__name__}: {error}")

# %% [markdown]
# Each step overshoots, the next slope is steeper, and after a few steps the loss is no number any more. The check stands before
# the update, so the weights still are what they were before the last batch.
#
# ## Changed copies
#
# 1,257 images are few. **Augmentation** shows changed copies instead, a new change each time, that a reader would still call by
# the same name. [`augment.affine`](../minivit/training/augment.py#affine) turns, stretches and moves a little;
# `augment.shift` moves by whole pixels.

# %%
five = mv.data.to_float(digits.test.images[[2, 0, 1, 3, 4]])  # (B, H, W, C)
rng = mv.random.stream(0, "chapter 10")
rows = [five, *(mv.augment.affine(five, rng) for _ in range(2))]
rows += [mv.augment.shift(five, rng, pixels=1)]
names = ["as it is"] * 5 + ["affine"] * 10 + ["shifted"] * 5
fig = mv.viz.pictures(list(np.concatenate(rows)), names, columns=5, tile=1.05)
gone = [1 - row.sum() / five.sum() for row in rows[1:]]
mv.viz.show(
    fig,
    alt=f"Four rows of our five digits: as they are, twice changed by affine, shifted by up "
    f"to 1 pixel. Ink that left the picture: {gone[0]:.0%}, {gone[1]:.0%} and {gone[2]:.0%}.",
)

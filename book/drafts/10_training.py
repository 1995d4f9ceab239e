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
print(digits)
print(
    "made by:",
    runs["command"],
    "| parts:",
    [k for k, v in runs.items() if type(v) is dict],
)

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
bins = np.logspace(-7, 1, 65)
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

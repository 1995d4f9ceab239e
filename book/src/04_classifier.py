# ---
# jupyter:
#   minivit:
#     title: A first classifier
#     question: What is a loss?
#     here: [logits, loss]
#     minutes: 45
#     exercises: [softmax, cross_entropy, first_loss, training_bug]
#     builds: [softmax, log_softmax, cross_entropy, relu, nn.Linear, nn.Module, nn.Parameter, random]
# ---

# %% [markdown]
# In chapter 02 a program turned two dials until it could tell a 3 from an 8; in chapter 03 whole arrays of dials learned to
# turn. Now the task is real: ten kinds of handwritten digits, and a machine that says which one it sees. We need two things
# that we do not have yet. One turns the pixels of an image into ten answers. The other is a number that says how wrong ten
# answers are, so that there is a hill to walk down. In chapter 02 this number, the loss, was a squared difference, and
# nobody asked why. This chapter asks.
#
# The images come in three parts. **Training** images change the weights. **Validation** images are looked at while we try
# things out. **Test** images wait until the end and are used once: whoever chooses with their help has begun to train on
# them.

# %%
import matplotlib.pyplot as plt
import numpy as np

import minivit as mv


def rows(split):  # images (n, 8, 8, 1) -> (n, 64) float64 in [0, 1]; labels (n,)
    x = mv.data.to_float(split.images).reshape(len(split), 64)
    return x.astype(np.float64), split.labels


digits = mv.data.digits()
train_x, train_y = rows(digits.train)
val_x, val_y = rows(digits.val)
print(digits)
print("training", train_x.shape, train_y.shape, "first labels", train_y[:8])

# %% [markdown]
# `rows` lays the eight rows of an image end to end: 64 numbers. That it was a square is forgotten; chapter 05 will
# want it back.
#
# ## From pixels to ten shares
#
# For each class we compute a score: a weight for every pixel, times the pixel, summed, plus a constant. For all
# classes at once that is one product, $s = xW + b$, with $W$ of shape (64, 10). Column $k$ of $W$ is a picture that the
# image is compared with. The scores are called **logits**; they can be any numbers.
#
# We want shares: positive, with sum 1. (Elsewhere they are called probabilities. We wait with that word until we have seen
# what they are worth.) The exponential makes any number positive, and dividing by the sum does the rest. That is
# **softmax**:
#
# $$p_k = \frac{e^{s_k}}{\sum_j e^{s_j}}$$

# %%
rng = np.random.default_rng(0)
W, b = 0.1 * rng.standard_normal((64, 10)), np.zeros(10)


def first_softmax(s):  # (..., K) -> (..., K)
    e = np.exp(s)
    return e / e.sum(axis=-1, keepdims=True)


scores = train_x[:4] @ W + b  # (4, 64) @ (64, 10) -> (4, 10)
shares = first_softmax(scores)
print("scores of image 0:", scores[0].round(2))
print("shares of image 0:", shares[0].round(2))
print("sums of the rows: ", shares.sum(axis=-1).round(6))

# %% [markdown]
# Four images, ten positive numbers for each, every row with sum 1. The weights are random, so the shares mean nothing
# yet. A model that has learned has larger scores than these. How large may they be?

# %% tags=["break"]
try:
    with np.errstate(over="raise"):  # NumPy would only warn
        first_softmax(np.array([1000.0, 1001.0]))
except FloatingPointError as error:
    print(type(error).__name__, error)

# %% [markdown]
# $e^{1000}$ has 435 digits, and the largest float64 has 309. Yet the answer is harmless, 27 % and 73 %: a difference of
# 1 is all that there is. Could we make scores smaller before the exponential sees them?
#
# Here are three scores. We add 100 to each, then take 100 away from each. **What happens to the shares?** (a) A lot, for
# $e^{100}$ has 44 digits. (b) A little: it is a good approximation. (c) Nothing.

# %% tags=["hide-output"]
guess = ...  # "a", "b" or "c"
s = np.array([2.0, 1.0, -1.0])
for shift in (0, 100, -100):
    p = first_softmax(s + shift)
    same = np.allclose(p, first_softmax(s), rtol=1e-12, atol=0)
    print(f"{shift:+5}: {p.round(6)}, the same to twelve digits: {same}")

# %% [markdown]
# Nothing. $e^{s+c} = e^s e^c$; the factor $e^c$ stands above and below the fraction line and cancels. (b) is tempting
# because the trick is often called "stabilising", as if something were given up for it. It is an equality; only
# the last bits are rounded otherwise, as chapter 01 warned.
#
# So we may choose $c$ for each row. With $c = -\max_j s_j$ the largest exponent is 0 and nothing overflows. A share too
# small for a float becomes 0, which is as near as a float can come.
#
# *Your turn* ([`softmax`](../exercises/ch04.py#softmax), ★, 10 minutes): write it for Tensors.
# `x.detach().max(axis=-1, keepdims=True)` is the maximum of each row, as a constant.

# %% tags=["your-turn"]
from exercises import check


def softmax(x):  # Tensor (..., K) -> Tensor (..., K), for scores of any size
    ...


check("softmax", softmax)

# %% [markdown]
# The library's is [`mv.softmax`](../minivit/engine/composed.py#softmax), with a [faster twin](../minivit/engine/fused.py#softmax)
# that is the one to run. Does it agree with our first one, and does it survive?

# %% tags=["check"]
print(np.allclose(mv.softmax(mv.Tensor(scores)).numpy(), shares))
print(mv.softmax(mv.Tensor(np.array([[0.0, 1.0], [1000.0, 1001.0]]))).numpy().round(6))

# %% [markdown]
# Both rows come out alike, since they differ by 1000 everywhere. From here on we write `mv.softmax`.
#
# ## One number for how wrong
#
# We want few mistakes. Why is their number not the loss? Let us look at it next to another candidate. The model claims a
# share for the right class of each image; how probable are all the right labels together, if the claims are true? That
# is the product of 1,257 shares, too small for a float. Its logarithm is a sum. We change the sign, so that less is
# better, and take the mean, so that the number of images does not matter. The mean of $-\log p_{\text{right}}$ is called
# **cross-entropy**; with the natural logarithm, the only one in this book, its unit is the nat.
#
# We move one weight of the 640 and watch both.

# %%
values = np.linspace(-4, 4, 241)
moved = np.tile(W, (241, 1, 1))  # (241, 64, 10)
moved[:, 35, 6] = values  # the weight of pixel 35 for class 6
s, y = train_x[:40] @ moved, train_y[:40]  # (241, 40, 10), (40,)
mistakes = (s.argmax(axis=2) != y).sum(axis=1)
loss = -np.log(mv.softmax(mv.Tensor(s)).numpy()[:, range(40), y]).mean(axis=1)
fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.1), layout="constrained")
left.plot(values, mistakes, color=mv.viz.VERMILLION, drawstyle="steps-mid")
right.plot(values, loss, color=mv.viz.BLUE)
left.set(xlabel="value of one weight", ylabel="mistakes in 40 images")
left.set_yticks(np.unique(mistakes))
right.set(xlabel="value of one weight", ylabel="cross-entropy (nats)")
words = f"Mistakes: stairs between {mistakes.min()} and {mistakes.max()}. "
words += f"Cross-entropy: one valley, {loss.min():.2f} at {values[loss.argmin()]:.1f}."
mv.viz.show(fig, alt=f"Two line charts against one weight, -4 to 4. {words}")

# %% [markdown]
# *The same forty images, the same weight. Left: mistakes; the stairs are level nearly everywhere, so their gradient is 0 and
# tells a walker nothing. Right: cross-entropy slopes everywhere but at its lowest point. The other weights are random.*
#
# This is why we need a loss at all. It is not the thing we care about; it is a smooth stand-in for it, and not the same:
# in this picture the valley is lowest where the mistakes are most. It is good because a mistake is never cheap: another class has a
# larger share, so the right one has less than ½, and the image costs more than $\ln 2$.
#
# What is a bad value? A model that knows nothing has ten equal scores, so shares of $\tfrac1{10}$ and a loss of
# $-\log \tfrac1{10} = \ln 10$. And a model with large random weights?


# %%
def my_cross_entropy(scores, labels):  # Tensor (B, K), integers (B,) -> Tensor ()
    p = mv.softmax(scores)
    return -p[np.arange(len(labels)), labels].log().mean()


for scale in (0, 0.1, 1, 3):
    s = mv.Tensor(train_x @ (scale * rng.standard_normal((64, 10))))
    print(f"weights of size {scale:3}: loss {my_cross_entropy(s, train_y).item():.2f}")
print(f"                ln 10 = {np.log(10):.2f}")

# %% [markdown]
# For $K$ classes the first loss should be near $\ln K$. It is an alarm that costs nothing: far above it, a model is not ignorant,
# it talks confident nonsense, because its first weights are too large.
#
# Confident nonsense breaks our formula, too. Two scores, 0 and 1000, and the label says the first:

# %% tags=["break"]
sure_and_wrong = mv.Tensor(np.array([[0.0, 1000.0]]))
try:
    with np.errstate(divide="raise"):
        my_cross_entropy(sure_and_wrong, np.array([0]))
except FloatingPointError as error:
    print(type(error).__name__, error)
print("mv.cross_entropy:", mv.cross_entropy(sure_and_wrong, np.array([0])).item())

# %% [markdown]
# The share of the right class, $e^{-1000}$, became 0, and its logarithm does not exist. Again nothing is wrong with the
# mathematics; we have taken a detour through a tiny number. Written out, with $m$ the row's maximum,
#
# $$-\log p_c = \log \sum_j e^{s_j - m} - (s_c - m),$$
#
# and the sum is at least 1, because the maximum is in it. This is
# [`mv.log_softmax`](../minivit/engine/composed.py#log_softmax), and
# [`mv.cross_entropy`](../minivit/engine/composed.py#cross_entropy) is built on it.
#
# ## The gradient is p − y
#
# First two numbers by hand. Scores $(\ln 3, 0)$ give shares $(\tfrac34, \tfrac14)$. The right class is the first, and
# the loss is $\log(3 + 1) - \ln 3$. Move the first score by a little $\varepsilon$: the first term grows by
# $\tfrac34 \varepsilon$, the second takes $\varepsilon$ away: $\tfrac34 - 1 = -\tfrac14$. Move the other: only the first
# term notices, $+\tfrac14$.

# %% tags=["check"]
s = mv.Tensor(np.log([[3.0, 1.0]]), requires_grad=True)
my_cross_entropy(s, np.array([0])).backward()
print("by the tape:", s.grad)
s = mv.Tensor(scores, requires_grad=True)
mv.cross_entropy(s, train_y[:4]).backward()
y = np.eye(10)[train_y[:4]]  # (B, K): 1 at the right class, else 0
print("(p - y) / B:", np.allclose(s.grad, (shares - y) / len(y)))
report = mv.gradcheck(lambda s: mv.cross_entropy(s, train_y[:4]), scores)
print("gradcheck:  ", "ok" in report)

# %% [markdown]
# Our hands, the tape of chapter 03 and its referee agree. In general, with $y$ the label written as a row, 1 at the right
# class $c$ and 0 elsewhere:
#
# - $\text{loss} = \log \sum_j e^{s_j} - s_c$, from above, with $m = 0$;
# - $\partial \log \sum_j e^{s_j} / \partial s_k = e^{s_k} / \sum_j e^{s_j} = p_k$, by the chain rule;
# - $\partial s_c / \partial s_k = y_k$, which is 1 only for $k = c$;
# - so $\partial\,\text{loss} / \partial s_k = p_k - y_k$, and in a mean over $B$ images each counts $1/B$.
#
# What was claimed minus what is true: few formulas of this book are as short, and none is used more.
#
# An image is recognised, with share 0.99 for the right class. **Is there still a gradient?** Yes or no; and with a
# share of 0.9999?

# %% tags=["hide-output"]
guess = ...  # "yes" or "no", twice
for gap in (1.0, 4.6, 9.2, 30.0):  # how far the right score lies above the other
    s = mv.Tensor(np.array([[gap, 0.0]]), requires_grad=True)
    mv.cross_entropy(s, np.array([0])).backward()
    print(f"share {mv.softmax(s).numpy()[0, 0]:.6f}   gradient {s.grad[0, 0]:+.1e}")

# %% [markdown]
# Yes, each time. "Correct, so nothing to learn" counts mistakes; the loss asks for a share of 1, which no finite score
# reaches. The gradient shrinks with the gap but is never 0. Training therefore never finishes by itself: it goes on to
# raise scores of images that have long been right.
#
# *Your turn* ([`cross_entropy`](../exercises/ch04.py#cross_entropy), ★★, 20 minutes): the loss and its gradient, in NumPy,
# without the tape, for scores a thousand apart.


# %% tags=["your-turn"]
def cross_entropy(logits, labels):  # arrays (B, K), (B,) -> number, array (B, K)
    ...  # return loss, dlogits


check("cross_entropy", cross_entropy)

# %% [markdown]
# ## A place for the parameters
#
# What training changes are **parameters**: here $W$ and $b$, later hundreds of arrays. We need them in a list, whatever
# contains them. A **module** is a part of a network that can name what it learns; a module inside a module hands on what
# is below it. Fourteen lines:


# %%
class MyModule:
    def parameters(self):
        for value in vars(self).values():
            if isinstance(value, MyModule):
                yield from value.parameters()
            elif isinstance(value, mv.Tensor) and value.requires_grad:
                yield value


class MyLinear(MyModule):
    def __init__(self, inside, outside):
        start = rng.standard_normal((inside, outside)) / np.sqrt(inside)
        self.weight = mv.Tensor(start, requires_grad=True)
        self.bias = mv.Tensor(np.zeros(outside), requires_grad=True)

    def __call__(self, x):  # (..., inside) -> (..., outside)
        return x @ self.weight + self.bias


# %% [markdown]
# The first weights are random and divided by $\sqrt{64}$, so that a sum of 64 products has the size of one product and the
# first loss stays near $\ln 10$. The library's pair is [`mv.nn.Module`](../minivit/nn/module.py#Module) and
# [`mv.nn.Linear`](../minivit/nn/layers.py#Linear); what it learns it holds as
# [`Parameter`](../minivit/nn/module.py#Parameter), a Tensor with a name. Do they compute the same?

# %% tags=["check"]
mine, theirs = MyLinear(64, 10), mv.nn.Linear(64, 10).astype(np.float64)
theirs.load_state_dict({"weight": mine.weight, "bias": mine.bias})
x = mv.Tensor(val_x)
print("same scores:", np.allclose(mine(x).numpy(), theirs(x).numpy()))
print([(name, p.shape) for name, p in theirs.named_parameters()])
print(
    "numbers to learn:", theirs.num_parameters(), sum(p.size for p in mine.parameters())
)

# %% [markdown]
# They do, and ours retires. 650 numbers are to be learned.
#
# ## The loop
#
# The gradient over all 1,257 images is exact for one step; then the weights have moved. A **mini-batch** of 64 images points
# roughly the same way at a twentieth of the price, so we can step twenty times as often. One pass over all images, in a
# new random order, is an **epoch**. Inside are the lines that you will meet in every training program: forward, forget,
# backward, step.


# %%
def judge(model, x, y):  # mean loss, and the share of right answers
    with mv.no_grad():
        s = model(mv.Tensor(x))
        return mv.cross_entropy(s, y).item(), (s.numpy().argmax(axis=1) == y).mean()


def train(model, x, y, epochs=40, rate=0.5, size=64, seed=0):
    model.astype(np.float64)
    for epoch in range(epochs):
        for batch in mv.data.batches(len(x), size, seed=seed, epoch=epoch):
            loss = mv.cross_entropy(model(mv.Tensor(x[batch])), y[batch])
            model.zero_grad()  # or the new gradients are added to the old
            loss.backward()
            for p in model.parameters():
                p.data -= rate * p.grad
        yield judge(model, x, y) + judge(model, val_x, val_y)  # after each epoch


# %% [markdown]
# `batches` deals out the numbers 0 to 1,256 in random order, 64 at a time. `train` hands over its figures after every epoch
# and then goes on.
#
# One Linear with this loss bears the name **logistic regression**. We train it twice from zeros: with all images in each
# step, and with 64. Both see every image forty times.

# %%
for size in (len(train_x), 64):
    linear = mv.nn.Linear(64, 10, zero=True)
    curve = list(train(linear, train_x, train_y, size=size))
    loss, right, val_loss, val_right = curve[-1]
    print(f"{size:5} in a step, {40 * -(-len(train_x) // size)} steps")
    print(f"  training   {loss:.2f} nats, {right:.1%} right")
    print(f"  validation {val_loss:.2f} nats, {val_right:.1%} right")

# %% [markdown]
# The same reading, twenty times the steps, and a loss several times smaller. One product with 64 × 10 weights reads most of the
# validation digits, of which it has trained on none.
#
# What did it learn? Each column of $W$ is an 8×8 picture. Below it stands the column of a model that was never trained, for
# what is there before training was not learned. Its first weights come from `stream(seed, "init")`: numbers that depend on
# the seed and the purpose alone, so that you see the same ones.


# %%
def fresh(make, seed=0):  # a model whose first weights are drawn from this seed
    with mv.random.drawing_from(mv.random.stream(seed, "init")):
        return make()


fig, axes = plt.subplots(2, 10, figsize=(9, 2.2), layout="constrained")
pair = [m.weight.numpy() for m in (linear, fresh(lambda: mv.nn.Linear(64, 10)))]
top = [np.abs(W).max() for W in pair]
for i, k in np.ndindex(2, 10):
    weights = pair[i][:, k].reshape(8, 8)
    axes[i, k].imshow(weights, cmap="PuOr", vmin=-top[i], vmax=top[i])
    axes[i, k].set(xticks=[], yticks=[], title=str(k) if i == 0 else "")
    axes[i, 0].set_ylabel(("trained", "untrained")[i])
words = f"Trained: blots up to {top[0]:.1f}; untrained: noise up to {top[1]:.1f}."
mv.viz.show(fig, alt=f"Twenty maps of 8×8 weights, one for each class. {words}")

# %% [markdown]
# *Weights of the ten classes, purple for, orange against (each row on its own scale). The 0 is against ink in its middle. A map
# says what the score counts, not why the classifier is right.*
#
# ## What a hidden layer adds
#
# A template has a limit that no training lifts. We turn half of the images into **negatives**, $1 - x$, black on white; you
# read them as easily as before. The linear score of a negative is $(1 - x)w + b = (w_1 + \dots + w_{64} + 2b) - (xw + b)$: a constant
# minus the score of the original.
#
# So we give the network a second Linear, and between the two a **ReLU**, $\max(0, x)$
# ([`mv.relu`](../minivit/engine/ops.py#relu)). Without it nothing would be gained:


# %%
class MLP(mv.nn.Module):
    def __init__(self, hidden=64):
        self.hidden = mv.nn.Linear(64, hidden)
        self.out = mv.nn.Linear(hidden, 10)

    def forward(self, x):  # (B, 64) -> (B, hidden) -> (B, 10)
        return self.out(mv.relu(self.hidden(x)))


mlp = fresh(MLP)
W1, W2 = mlp.hidden.weight.numpy(), mlp.out.weight.numpy()
x = train_x[:4].astype(np.float32)
print("two products are one:", np.allclose(x @ W1 @ W2, x @ (W1 @ W2), atol=1e-5))
print([name for name, _ in mlp.named_parameters()], mlp.num_parameters(), "numbers")

# %% [markdown]
# $(xW_1)W_2 = x(W_1W_2)$, a Linear again. With the ReLU between them, each of the 64 hidden numbers can fall silent for one
# kind of image and speak for another.
#
# **Of the validation images, half of them negatives, how many does each model read after training?** Chance is 10 %.

# %% tags=["hide-output"]
guess = ...  # per cent for Linear, per cent for MLP


def some_negatives(x, seed):
    half = np.random.default_rng(seed).random((len(x), 1)) < 0.5
    return np.where(half, 1 - x, x)


x, val = some_negatives(train_x, 0), some_negatives(val_x, 1)
for name, make in (("Linear", lambda: mv.nn.Linear(64, 10)), ("MLP", MLP)):
    models = [fresh(make, seed) for seed in range(3)]
    for seed, model in enumerate(models):
        list(train(model, x - 0.5, train_y, seed=seed))
    right = ", ".join(f"{judge(model, val - 0.5, val_y)[1]:.0%}" for model in models)
    print(f"{name:6} {right}   (three seeds, {len(val)} images)")

# %% [markdown]
# The Linear is not far above chance: whatever raises its score for an original lowers it for the negative. The hidden layer
# reads both. (We took ½ from each pixel to centre them; it changes neither argument.)
#
# It is tempting to expect that the Linear loses a few points, because it did so well on plain digits. Back to those: how much
# does the hidden layer gain there, and what does training do with the freedom?

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.1), layout="constrained", sharey=True)
words = []
for ax, model in zip(axes, (fresh(lambda: mv.nn.Linear(64, 10)), mlp), strict=True):
    curve = np.array(list(train(model, train_x, train_y, epochs=80))).T  # (4, 80)
    ax.plot(range(1, 81), curve[0], color=mv.viz.BLUE, label="training")
    ax.plot(range(1, 81), curve[2], "--", color=mv.viz.VERMILLION, label="validation")
    ax.set(xlabel="epoch", title=type(model).__name__, ylim=(0, 1))
    words += [f"training {curve[0, -1]:.3f}, validation {curve[2, -1]:.2f} nats"]
    print(f"right: training {curve[1, -1]:.1%}, validation {curve[3, -1]:.1%}")
axes[0].legend(frameon=False)
axes[0].set_ylabel("cross-entropy (nats)")
alt = f"Two line charts of loss over 80 epochs. Linear: {words[0]}. MLP: {words[1]}."
mv.viz.show(fig, alt=alt)
print("MLP: every training image right after epoch", 1 + int(curve[1].argmax()))

# %% [markdown]
# *Loss on training and validation images. The MLP's training loss goes on towards 0 when every training image is long since
# right, as p − y said it would; its validation loss has stopped falling before. One seed each, and one validation image of 180
# is more than half a per cent: the gap between the models is four images wide.*
#
# ## What a share is not
#
# The MLP's shares for validation images are mostly near 1, and mostly deserved. Now we show it what is no digit: random black
# and white pixels, a thousand pictures of them, and the photo of chapter 01, shrunk to 8×8. **How large is the largest of its
# ten shares, typically?** Near 10 %, since it has no idea? Near 50 %? Near 100 %?

# %% tags=["hide-output"]
guess = ...  # per cent
static = np.random.default_rng(1).integers(0, 2, (1000, 64)).astype(np.float64)
photo = mv.data.read_pixels("assets/photo.png").mean(axis=2) / 255  # (256, 256)
photo = photo.reshape(8, 32, 8, 32).mean(axis=(1, 3))  # each pixel the mean of 32×32
inputs = {"digits": val_x, "static": static, "the photo": photo.reshape(1, 64)}
pair = (mlp, fresh(MLP).astype(np.float64))
for kind, x in inputs.items():
    top = [mv.softmax(m(mv.Tensor(x))).numpy().max(axis=1) for m in pair]
    words = f" (untrained {np.median(top[1]):.0%})"
    print(f"{kind:9} largest share, median: {np.median(top[0]):.0%}{words}")
five = rows(digits.test[[2, 0, 1, 3, 4]])[0]  # the digits of chapter 01
shown = np.concatenate([five, static[:3], inputs["the photo"]])
p = mv.softmax(mlp(mv.Tensor(shown))).numpy()
captions = [f"“{q.argmax()}”, {q.max():.0%}" for q in p]
mv.viz.show(mv.viz.pictures(list(shown.reshape(-1, 8, 8)), captions, tile=1.3))

# %% [markdown]
# *Our five digits, the first three of the thousand, and the photo: what the trained MLP says, and its share for that.* A share
# is not the chance of being right. Softmax divides 1 among ten classes, whatever comes in; there is no "none of these".
# Among images like those of the training, large shares are mostly right, because training made them so. Elsewhere nothing
# was promised. Confidence is learned, and spreads further than knowledge.
#
# ## Whose hand?
#
# Now the test images, once. A random split takes two lines, `order = rng.permutation(1797)` and
# `np.split(order, [1257, 1437])`, and puts the same writers into all three parts. In the file's own order, the last 360
# images are probably by other people (the file does not say). Same sizes, same models, five seeds: **on strangers, does a
# model read more, as many, one point fewer, or five points fewer?**

# %% tags=["hide-output"]
guess = ...  # more, as many, one fewer, five fewer
ordered = mv.data.digits(split="file-order")
for name, make in (("Linear", lambda: mv.nn.Linear(64, 10)), ("MLP", MLP)):
    for split, data in (("shuffled", digits), ("file order", ordered)):
        right = []
        for seed in range(5):
            model = fresh(make, seed)
            list(train(model, *rows(data.train), seed=seed))
            right.append(100 * judge(model, *rows(data.test))[1])
        low, high = min(right), max(right)
        print(f"{name:6} {split:10} {np.mean(right):.1f} % ({low:.1f} to {high:.1f})")

# %% [markdown]
# More than five points, for a change that touches no line of the model. "We held out images at random" sounds safe, and it answers
# a question: how well are more digits by these people read? Whoever will read strangers' digits has asked another one. (The
# five seeds share 360 images, and one image is 0.3 points: the ranges say what chance in training does, not what other
# strangers would.)
#
# ## Exercises
#
# [`first_loss`](../exercises/ch04.py#first_loss) (★, 8 minutes): the first weights of a network with a hidden layer, whose loss starts at
# 14 to 22 instead of near $\ln K$. Change two lines.


# %% tags=["your-turn"]
def first_loss(rng, features, hidden, classes):
    w1 = rng.standard_normal((features, hidden))
    w2 = rng.standard_normal((hidden, classes))
    return w1, w2


check("first_loss", first_loss)

# %% [markdown]
# [`training_bug`](../exercises/ch04.py#training_bug) (★★, 15 minutes): a loop that runs, learns, and is wrong twice. One fault cheats, the other
# makes the steps too long. Ask of every line where its numbers come from.


# %% tags=["your-turn"]
def training_bug(train_x, train_y, test_x, classes, steps, rate):
    everything = np.concatenate([train_x, test_x])
    mean, std = everything.mean(axis=0), everything.std(axis=0) + 1e-6
    x, target = (train_x - mean) / std, np.eye(classes)[train_y]
    weight, gradient = np.zeros((2, x.shape[1], classes))
    for _ in range(steps):
        logits = x @ weight
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        gradient += x.T @ (p - target) / len(x)
        weight -= rate * gradient
    return weight, (test_x - mean) / std


check("training_bug", training_bug)

# %% [markdown]
# ## What we left out
#
# Cross-entropy is not the only loss: squared error works for classes too, and hinge losses have margins. Labels can be
# softened, so that the model is asked for 0.9 instead of 1; `mv.cross_entropy` takes `smoothing`. Shares can be made more
# honest afterwards by dividing all logits by one number, fitted on validation images. And plain descent is the crudest of
# optimisers; chapter 10 improves it.
#
# **Further reading.** Bishop, *Pattern Recognition and Machine Learning* (2006), section 4.3, on logistic regression. Guo and
# others, *On Calibration of Modern Neural Networks* (2017), on shares and chances. Hein and others, *Why ReLU networks
# yield high-confidence predictions far away from the training data* (2019), on our static. Alpaydin and Kaynak's digits are
# described in the UCI repository (DOI 10.24432/C50P49).
#
# ## In three sentences
#
# Softmax turns scores into shares, cross-entropy asks how probable they make the right labels, and together their gradient is
# what was claimed minus what is true. A module keeps the parameters, a loop takes small steps on small batches, a hidden layer lets
# scores do what no template can, and validation tells us how it goes on images like these. A loss is one number, smooth
# in every weight, that stands in for what we care about, so that there is always a way down; what it
# stands in for, and for whom, remains ours to check.
#
# **From earlier chapters**: our `judge` counts with `s.argmax(axis=1) == y`; what would it compute if `y` had shape (n, 1), and
# would anything complain (01)? `backward` adds to `grad`; what does the descent do if `zero_grad` is left out (02)?
#
# **To leave with**: a classifier of 1,000 classes starts with a loss of 6.9. Good or bad? One step later an image of class 3 has
# a share of 0.2 for class 3 and 0.1 for class 7. Write down the gradients of these two logits.

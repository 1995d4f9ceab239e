"""The usual mistakes in the exercises of chapter 10."""

import math

import numpy as np

from exercises.mistakes import mistake

# ---- adamw


def steps(fault, first=1):
    """AdamW with one thing wrong, chosen by its name; t counts from `first`."""

    def adamw(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
        b1, b2 = reversed(betas) if fault == "betas exchanged" else betas
        m, v = np.zeros_like(p), np.zeros_like(p)
        start = p
        for t, g in enumerate(gradients, start=first):
            if fault == "decay in the gradient":
                g = g + weight_decay * p
            if fault == "state forgotten":
                m, v = np.zeros_like(p), np.zeros_like(p)
            m = b1 * m + (g if fault == "gradient not weighed" else (1 - b1) * g)
            v = b2 * v + (1 - b2) * (np.abs(g) if fault == "absolute gradient" else g * g)
            m_hat = m if fault == "no bias correction" else m / (1 - b1**t)
            v_hat = v if fault in ("no bias correction", "v not corrected") else v / (1 - b2**t)
            if fault == "correction kept":
                m, v = m_hat, v_hat
            size = np.sqrt(v_hat + eps) if fault == "eps inside the root" else np.sqrt(v_hat) + eps
            size = v_hat + eps if fault == "no root" else size
            decay = {"decay in the gradient": 0, "no decay": 0, "decay without lr": weight_decay / lr}.get(
                fault, weight_decay
            )
            before = start if fault == "each step from the start" else p
            p = before - lr * m_hat / size
            p = p - lr * decay * (p if fault == "decay after the step" else before)
        return p

    return adamw


def times(found, expected, p):
    """How many times as long the way from p is as it should be, in the middle of all entries that move."""
    moved = np.abs(expected - p) > 0
    return float(np.median((found - p)[moved] / (expected - p)[moved]))


def clearest(found, p):
    """The entry that has moved most, as an index in brackets."""
    far = np.abs(found - p)
    return [int(i) for i in np.unravel_index(far.argmax(), far.shape)]


mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"Your first step is {times(found, expected, p):.3g} times too long. m and v start empty: how full are they "
        "after one step?"
    ),
    "no_bias_correction",
)(steps("no bias correction"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"Your first step is {times(found, expected, p):.3g} times too long. m̂ is right, but v starts empty, too: how "
        "full is it after one step?"
    ),
    "v_not_corrected",
)(steps("v not corrected"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        "All is right until there is weight decay; yours goes into the gradient, and m and v divide it away again, as "
        "in Adam with an L2 penalty. The W stands for decoupled: where does the decay act?"
    ),
    "decay_inside_the_gradient",
)(steps("decay in the gradient"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"Entries with large gradients are right. Where |g| is near {np.abs(gradients[..., 0]).max():.1g} you are off: "
        f"√{eps:g} is {eps**0.5:g}, which is no small number beside that. Is eps added to v̂ or to its root?"
    ),
    "eps_inside_the_root",
)(steps("eps inside the root"))

mistake(
    "adamw",
    "All your values are nan after the first step, where t should be 1. What is 1 − βᵗ if the count begins at 0?",
    "counter_from_0",
)(steps("", first=0))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"Your first step is {times(found, expected, p):.3g} times as long as it should be, as if m and v had been "
        "filled once more than they were. How large is t when the first gradient arrives?"
    ),
    "counter_one_ahead",
)(steps("", first=2))


@mistake(
    "adamw",
    "The steps are right, but they are taken in p itself, and the caller's parameter has moved. The result should be a "
    "new array: which of your lines writes into the old one?",
)
def steps_in_the_array(p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05):
    p[:] = steps("")(p, gradients, lr, betas, eps, weight_decay)
    return p


mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"One step is right. Of {len(gradients)} steps only the last is left in your result: m and v have gone on, but "
        "each step begins at the first p. Under which name do you keep what a step has made?"
    ),
    "each_step_from_the_first_p",
)(steps("each step from the start"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"One step is right. In {len(gradients)} steps yours forgets at each what the gradients before it were, and "
        "walks by the last one alone. What should outlive a turn of the loop?"
    ),
    "state_made_anew",
)(steps("state forgotten"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        "One step is right, the second is not: m and v carry the corrected values on, and those are corrected again. "
        "m̂ is what a step is made with: what is m for?"
    ),
    "correction_kept_in_the_state",
)(steps("correction kept"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"Your decay takes from p as it is after the step, {lr * weight_decay:g} of it. The formula has p once on the "
        "right: which p is it?"
    ),
    "decay_after_the_step",
)(steps("decay after the step"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"Your decay takes {weight_decay:g} of p at each step, where {lr * weight_decay:g} of it should go. In the "
        "formula, what does the bracket stand beside?"
    ),
    "decay_without_lr",
)(steps("decay without lr"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"Right as long as weight_decay is 0; here it is {weight_decay:g}, and a parameter without any gradient should "
        "still shrink. Yours stays: which of the arguments does nothing yet?"
    ),
    "no_decay",
)(steps("no decay"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        "Your step divides by v̂, so the smaller a gradient, the longer its step: entry "
        f"{clearest(found, p)} moves by {np.abs(found - p).max():.0f}. v averages squares: what has the size of "
        "a gradient again?"
    ),
    "no_root",
)(steps("no root"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        "Your v averages |g| and not g², but it is divided by its root: a gradient of 100 makes a first step of "
        f"{lr * 10:.2g}, where every first step should be {lr:g}. What does the root undo?"
    ),
    "absolute_gradient",
)(steps("absolute gradient"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"Your first step is {times(found, expected, p):.3g} times too long: m takes in the gradient whole, as "
        "momentum in SGD does. An average of old and new has shares that add up to 1: β₁ and what?"
    ),
    "gradient_not_weighed",
)(steps("gradient not weighed"))

mistake(
    "adamw",
    lambda found, expected, p, gradients, lr, betas, eps, weight_decay: (
        f"One step is right. In more of them your m remembers longer than your v: with betas {betas}, which of the two "
        "numbers belongs to the average of the gradients?"
    ),
    "betas_exchanged",
)(steps("betas exchanged"))


# ---- clip_global_norm


def norm_of(gradients):
    return math.sqrt(sum(float((g * g).sum()) for g in gradients if g is not None))


def scaled(gradients, factor):
    return [None if g is None else g * factor for g in gradients]


def norms(gradients):
    return ", ".join(f"{norm_of([g]):.2g}" for g in gradients if g is not None)


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        f"You clip each gradient by itself: their norms are {norms(found[0])} now, each at most {limit:g}, but "
        f"together {norm_of(found[0]):.3g}. Clipping one and not another turns the step: how many norms does a model's "
        "gradient have?"
    ),
)
def each_alone(gradients, limit):
    clipped = [None if g is None else g * min(1, limit / norm_of([g])) if norm_of([g]) else g for g in gradients]
    return clipped, norm_of(gradients)


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        f"The common norm is {norm_of(gradients):.2g} here, below the limit of {limit:g}, and you scale it up to the "
        "limit. Small gradients near a minimum would be made large: when is there something to clip?"
    ),
)
def always_scaled(gradients, limit):
    return scaled(gradients, limit / norm_of(gradients)), norm_of(gradients)


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        f"You cut each number at ±{limit:g}: the norm is still {norm_of(found[0]):.3g}, and where large entries are "
        "cut and small ones stay, the step turns. What would keep its direction?"
    ),
)
def values_cut(gradients, limit):
    return [None if g is None else np.clip(g, -limit, limit) for g in gradients], norm_of(gradients)


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        f"The gradients are right. The norm you return is {found[1]:.3g}, as it is after clipping; whoever watches it "
        "would see the limit for ever. Which norm tells that a step was wild?"
    ),
)
def norm_afterwards(gradients, limit):
    clipped = scaled(gradients, min(1, limit / norm_of(gradients)))
    return clipped, norm_of(clipped)


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        f"The norm is right and above the limit of {limit:g}, but the gradients come back as they were. What is the "
        f"factor that brings a norm of {found[1]:.3g} to {limit:g}?"
    ),
)
def nothing_clipped(gradients, limit):
    return list(gradients), norm_of(gradients)


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        f"Your norm, {found[1]:.3g}, is the sum of the norms of the parameters. Two sides of a right angle, 3 and 4, "
        "have a diagonal of 5, not 7: what is added up, and when is the root taken?"
    ),
)
def sum_of_norms(gradients, limit):
    total = sum(norm_of([g]) for g in gradients)
    return scaled(gradients, min(1, limit / total)), total


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        f"Your norm is {found[1]:.3g}, the sum of the squares. A gradient of one number, 3, has the norm 3: which step "
        "is missing after the sum?"
    ),
)
def norm_without_root(gradients, limit):
    squares = norm_of(gradients) ** 2
    return scaled(gradients, min(1, limit / squares)), squares


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        f"Your norm is {found[1]:.3g}, the largest of the parameters' own norms. After clipping by it the common norm "
        f"is {norm_of(found[0]):.3g}, the limit {limit:g}: what do several small gradients come to together?"
    ),
)
def largest_norm(gradients, limit):
    largest = max(norm_of([g]) for g in gradients)
    return scaled(gradients, min(1, limit / largest)), largest


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        f"Your gradients have a norm of {norm_of(found[0]):.3g} now, above the {norm_of(gradients):.3g} they had: the "
        "factor is upside down. By what must a norm be multiplied to become the limit?"
    ),
)
def factor_upside_down(gradients, limit):
    norm = norm_of(gradients)
    return scaled(gradients, norm / limit if norm > limit else 1), norm


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        f"{len(gradients)} parameters come in, {len(found[0])} gradients go out: the one that was None is gone, and "
        "the next takes its place. How will the optimiser know which gradient is whose?"
    ),
)
def none_left_out(gradients, limit):
    there = [g for g in gradients if g is not None]
    return scaled(there, min(1, limit / norm_of(there))), norm_of(there)


@mistake(
    "clip_global_norm",
    "The values are right, but what the caller handed in is changed: a second look at the same gradients finds them "
    "clipped. Which of your lines writes into something that is not yours?",
)
def scaled_in_place(gradients, limit):
    norm = norm_of(gradients)
    for g in gradients:
        if g is not None:
            g *= min(1, limit / norm)
    return gradients, norm


@mistake(
    "clip_global_norm",
    lambda found, expected, gradients, limit: (
        "The clipped gradients are right, and they are all that you return. Two things are asked for: what else would "
        "somebody want to watch from step to step?"
    ),
)
def norm_not_returned(gradients, limit):
    return scaled(gradients, min(1, limit / norm_of(gradients)))

"""One library in one process: `python -m benchmarks.runners LIBRARY WORKLOAD` answers commands on standard input.

Each library has its own process, so that its memory can be told apart and its threads leave the others alone; the parent
asks them in turn. `{"do": "train", "steps": n}` answers the seconds of each step and the first loss, `"infer"` likewise;
`"gradients"` how far minivit's are from PyTorch's in float64.
"""

import json
import sys
import time
from typing import Any

from benchmarks import workloads


class Minivit:
    """This library, used as `mv.fit` uses it."""

    processes = False

    def __init__(self, name: str, fresh: bool = False):
        import minivit as mv

        self.mv, self.model = mv, workloads.build(name)
        self.config = workloads.WORKLOADS[name]["model"]
        self.images, self.labels = workloads.batch(name)
        optimizer = mv.optim.AdamW(
            self.model.parameters(), lr=workloads.LEARNING_RATE, betas=(0.9, 0.999), weight_decay=workloads.DECAY
        )
        self.step = mv.TrainStep(self.model, optimizer, processes=self.processes)

    def train(self) -> float:
        return self.step(self.images, self.labels)

    def infer(self) -> None:
        self.mv.infer(self.model, self.images)

    def gradient_error(self) -> float:
        """‖g − g₆₄‖ / ‖g₆₄‖ over all parameters together, g₆₄ from PyTorch in float64; changes the weights."""
        import torch

        from benchmarks.torch_vit import TorchViT, load
        from minivit.interop.saved import to_file

        exact = TorchViT(**self.config).double()
        load(exact, self.model)
        images = torch.from_numpy(self.images.transpose(0, 3, 1, 2).astype("float64"))
        torch.nn.functional.cross_entropy(exact(images), torch.from_numpy(self.labels)).backward()
        self.mv.cross_entropy(self.model(self.images), self.labels).backward()
        for p in self.model.parameters():
            p.data = p.grad  # so that they leave under PyTorch's names and in its layout
        ours = to_file(self.model)
        apart = sum(float(((p.grad.numpy() - ours[n]) ** 2).sum()) for n, p in exact.named_parameters())
        return (apart / sum(float((p.grad**2).sum()) for p in exact.parameters())) ** 0.5

    def mode(self, training: bool) -> None:
        self.model.train(training)


class MinivitProcesses(Minivit):
    """The same with `processes=True`: training in two processes, inference as ever."""

    processes = True


class Torch:
    """PyTorch, eager: timm's plain ViT in 40 lines, with its fused attention and AdamW, from the same weights."""

    compiled = False

    def __init__(self, name: str, fresh: bool = False):
        import torch

        from benchmarks.torch_vit import TorchViT, load

        self.torch = torch
        model = TorchViT(**workloads.WORKLOADS[name]["model"])
        if not fresh:  # minivit is imported for its weights alone
            load(model, workloads.build(name))
        images, labels = workloads.batch(name)
        self.images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        self.labels = torch.from_numpy(labels)
        decayed = [p for p in model.parameters() if p.ndim in (2, 4)]
        rest = [p for p in model.parameters() if p.ndim not in (2, 4)]
        groups = [{"params": decayed, "weight_decay": workloads.DECAY}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=workloads.LEARNING_RATE, betas=(0.9, 0.999))
        self.model = torch.compile(model) if self.compiled else model

    def train(self) -> float:
        loss = self.torch.nn.functional.cross_entropy(self.model(self.images), self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def infer(self) -> None:
        with self.torch.inference_mode():
            self.model(self.images)

    def mode(self, training: bool) -> None:
        self.model.train(training)


class TorchCompiled(Torch):
    """The same through torch.compile."""

    compiled = True


class Jax:
    """JAX: the whole training step jitted."""

    def __init__(self, name: str, fresh: bool = False):
        import jax

        from benchmarks import jax_vit

        self.jax = jax
        config = workloads.WORKLOADS[name]["model"]
        sizes = {k: config[k] for k in ("patch_size", "depth", "num_heads")}
        self.parameters = {n: jax.numpy.asarray(a) for n, a in workloads.build(name).state_dict().items()}
        self.m, self.v = ({n: 0 * a for n, a in self.parameters.items()} for _ in range(2))
        self.t = 0
        self.images, self.labels = (jax.numpy.asarray(a) for a in workloads.batch(name))
        self.step = jax_vit.make_step(**sizes, lr=workloads.LEARNING_RATE, decay=workloads.DECAY)
        self.forward = jax.jit(lambda p, x: jax_vit.forward(p, x, **sizes))

    def train(self) -> float:
        self.t += 1
        arguments = self.parameters, self.m, self.v, float(self.t), self.images, self.labels
        loss, self.parameters, self.m, self.v = self.step(*arguments)
        self.jax.block_until_ready(self.parameters)
        return float(loss)

    def infer(self) -> None:
        self.jax.block_until_ready(self.forward(self.parameters, self.images))

    def mode(self, training: bool) -> None:
        pass


class GemmBound:
    """No library at all: the step's own matrix products, alone, shared between workers as minivit shares them."""

    def __init__(self, name: str, fresh: bool = False):
        from benchmarks.gemm_bound import products

        self.train_products, self.infer_products = (products(name, training) for training in (True, False))

    def train(self) -> float:
        self.train_products()
        return float("nan")

    def infer(self) -> None:
        self.infer_products()

    def mode(self, training: bool) -> None:
        pass


RUNNERS = {
    "minivit": Minivit,
    "processes": MinivitProcesses,
    "torch": Torch,
    "torch.compile": TorchCompiled,
    "jax": Jax,
    "gemm": GemmBound,
}


def serve(library: str, name: str, fresh: bool) -> None:
    """Answer commands, one JSON object a line, until standard input ends. `fresh`: with the library's own weights."""
    if library.startswith("without:"):
        from benchmarks.ablation import TECHNIQUES

        TECHNIQUES[library.removeprefix("without:")][1]()
        library = "minivit"
    runner = RUNNERS[library](name, fresh)
    answer({"ready": True})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "gradients":
            answer({"error": runner.gradient_error()})
            continue
        training = command["do"] == "train"
        runner.mode(training)
        act, seconds, values = (runner.train if training else runner.infer), [], []
        for _ in range(command["steps"]):
            start = time.perf_counter()
            values.append(act())
            seconds.append(time.perf_counter() - start)
        answer({"seconds": seconds, "first": values[0]})


def answer(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], sys.argv[3:] == ["fresh"])

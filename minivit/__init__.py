"""minivit: a Vision Transformer from scratch, in NumPy and CuPy. `import minivit as mv`.

To read it, begin at the bottom and climb; each file needs only what came before it.

1. `engine/`: `backend` (NumPy or CuPy), `tensor` (an array that remembers), `ops` (each operation with its gradient),
   `composed` (the formulas), `fused` (the same, fast), `gradcheck` (the referee). Beside it `data/`.
2. `nn/`: `module`, `layers`, `patches`, `attention`, `block`, `trace` (look inside).
3. `models/`: `vit`, on one page. `interop/`: weights in and out.
4. `training/`: `optim`, `schedule`, `augment`, `workers`, `step`, `infer`, `loop`, `checkpoint`.
5. `viz` draws; `studies/`: the findings of the literature, measured; `__main__` is the command line.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {  # where each public name lives; a module is imported when one of its names is first used
    "engine.tensor": ("Tensor", "no_grad", "op"),
    "engine.backend": ("use", "to_numpy"),
    "engine.gradcheck": ("gradcheck",),
    "engine.profile": ("profile",),
    "engine.debug": ("anomaly",),
    "engine.ops": (
        "where", "maximum", "minimum", "exp", "log", "sqrt", "sin", "cos", "tanh", "erf", "sigmoid", "relu",
        "concatenate", "stack", "split", "pad", "roll", "flip", "matmul", "fft2_real",
        "conv2d", "max_pool2d", "avg_pool2d", "broadcast_to",
    ),
    "engine.fused": ("linear", "softmax", "log_softmax", "gelu", "silu", "layer_norm", "attention", "cross_entropy"),
    "engine.errors": (
        "MinivitError", "ShapeError", "DTypeError", "DeviceError", "GraphError", "NonFiniteError", "GradientError",
        "ConfigError", "CheckpointError", "DataError", "WorkerError",
    ),
    "nn.module": ("Module", "Parameter"),
    "nn.patches": ("patchify", "unpatchify"),
    "nn.trace": ("trace", "Trace"),
    "models.vit": ("ViT",),
    "models.presets": ("presets", "create"),
    "interop.saved": ("save", "load"),
    "interop.pretrained": ("load_pretrained",),
    "training.step": ("TrainStep",),
    "training.loop": ("fit",),
    "training.infer": ("infer", "predict", "evaluate"),
}  # fmt: skip
_NAMES = {name: home for home, names in _HOME.items() for name in names}
_MODULES = {
    "data": "data", "nn": "nn", "viz": "viz", "studies": "studies", "debug": "engine.debug", "optim": "training.optim",
    "schedule": "training.schedule", "augment": "training.augment", "composed": "engine.composed", "fused": "engine.fused",
    "ops": "engine.ops", "random": "engine.random",
}  # fmt: skip

__all__ = sorted([*_NAMES, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = importlib.import_module(f"minivit.{_MODULES[name]}")
    elif name in _NAMES:
        importlib.import_module("minivit.engine.ops")  # gives Tensor its operators
        value = getattr(importlib.import_module(f"minivit.{_NAMES[name]}"), name)
    else:
        from minivit.engine.errors import did_you_mean

        raise AttributeError(f"minivit has no {name!r}{did_you_mean(name, __all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]

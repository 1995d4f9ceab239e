"""What a finished run is remembered by: its accuracies, and everything that says how they came about."""

import dataclasses
import platform
from pathlib import Path
from typing import Any

import minivit
from minivit.data.dataset import Dataset
from minivit.nn.module import Module
from minivit.training.infer import evaluate
from minivit.training.loop import FitResult
from minivit.training.workers import cores


def report(model: Module, data: Dataset, run: FitResult) -> dict[str, Any]:
    """The content of `result.json`: accuracies in [0, 1], losses in nats, times in seconds, and how to get them again.

    The test images are looked at here, once, when nothing can be changed any more.
    """
    test_loss, test_accuracy = evaluate(model, data.test)
    val_loss, val_accuracy = evaluate(model, data.val)
    last = run.history[-1]
    return {
        "test_accuracy": test_accuracy,
        "test_loss": test_loss,
        "val_accuracy": val_accuracy,
        "val_loss": val_loss,
        "data": data.name,
        "images": {part: len(split) for part, split in data.parts.items()},
        "model": type(model).__name__,
        "model_config": model.config,
        "parameters": model.num_parameters(),
        "dtype": model.parameters()[0].dtype.name,
        "backend": model.parameters()[0].backend,
        "config": dataclasses.asdict(run.config),
        "seed": run.config.seed,
        "epochs": len(run.history),
        "steps": run.step,
        "seconds": last["seconds"],
        "images_per_second": last["images_per_second"],
        "versions": versions(),
        "blas": blas(),
        "machine": machine(),
    }


def versions() -> dict[str, str]:
    """Of minivit, Python and the libraries."""
    from importlib.metadata import version

    found = {name: version(name) for name in ("numpy", "matplotlib", "pillow")}
    return {"minivit": minivit.__version__, "python": platform.python_version(), **found}


def blas() -> list[dict[str, Any]]:
    """The libraries behind `@`: which, which version, for which processor its kernels are, how many threads."""
    import threadpoolctl

    return [
        {
            "library": found["internal_api"],
            "version": found.get("version") or "of unknown version",
            "kernels": found.get("architecture") or "unknown kernels",
            "threads": found["num_threads"],
        }
        for found in threadpoolctl.threadpool_info()
        if found["user_api"] == "blas"
    ]


def machine() -> dict[str, Any]:
    """The kind of machine, without its name: system, processor, and how many cores this program may use."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    return {"system": f"{platform.system()} {platform.machine()}", "processor": processor, "cores": cores()}

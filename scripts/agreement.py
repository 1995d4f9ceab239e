"""Measure how closely models out of other libraries' files agree with those libraries, and print the README's table.

`python -m scripts.agreement` loads every file of tests/golden that another library wrote, runs it on the recorded images,
and compares logits, final tokens and last attention with what the library computed. It fails where a difference is above
2e-5 · max(1, largest |reference|). With onnxruntime installed, each model is exported and run there too.
"""

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import minivit as mv

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
TOLERANCE = 2e-5
CONTAINERS = {".npz": "npz", ".safetensors": "safetensors", ".pth": "zip .pth", ".pt": "zip .pth", ".bin": "zip .pth"}
LIBRARIES = {  # how names of the recorded models begin -> who computed them
    "timm": "timm {timm}", "hf": "transformers {transformers}", "lucidrains": "vit-pytorch {vit_pytorch}",
    "dino": "facebookresearch/dino", "deit": "facebookresearch/deit",
}  # fmt: skip
CANNOT_SAY = ("eps", "mlp", "num_heads")  # what weights do not tell
NOTE = """\
Largest |difference| of logits, final tokens and last attention, over all models and images, divided by
max(1, largest |reference|); float32, {asked} is asked for. Every model is small, random and built by the library that is
named; **not run on published weights**, as none were at hand."""


@dataclass
class Case:
    """A file that another library wrote, what has to be said besides, and what that library computed with it."""

    name: str
    library: str
    path: Path
    said: dict[str, Any]
    references: list[dict[str, np.ndarray]]  # the first at the model's own image size


@dataclass
class Row:
    """What was measured of one family in one container."""

    models: int = 0
    worst: list[float | None] = field(default_factory=lambda: [None, None, None])  # own size, other sizes, onnxruntime


def cases() -> Iterator[Case]:
    """Every recorded model."""
    table = json.loads((GOLDEN / "timm_families.json").read_text(encoding="utf-8"))
    for name, entry in table["families"].items():
        if name == "everything":  # its file does not tell how many of its 12 positions are patches
            continue
        config = entry["config"]
        said = {k: v for k, v in config.items() if k in CANNOT_SAY} | {"image_size": _pair(config["image_size"])}
        path = GOLDEN / f"timm_{name}.safetensors"
        yield Case(f"timm_{name}", _library("timm", table["versions"]), path, said, _recorded(f"timm_{name}.npz"))
    table = json.loads((GOLDEN / "families.json").read_text(encoding="utf-8"))
    for name, entry in table["families"].items():
        references = _recorded(entry["expected"])
        path, library = GOLDEN / entry["path"], _library(name.partition("_")[0], table["versions"])
        yield Case(name, library, path, entry["overrides"], references)
    table = json.loads((GOLDEN / "google_cases.json").read_text(encoding="utf-8"))
    for name, entry in table["cases"].items():
        fixed = entry.get("positions") == "sincos2d" or name == "mixer_early"
        said = {"image_size": tuple(entry["images"][0])} if fixed else {}
        references = _recorded(f"google_{name}_expected.npz")
        for reference in references:
            reference["images"] = reference["images"].astype(np.float32) / 32
        library = f"google-research/{entry['source']}"
        yield Case(f"google_{name}", library, GOLDEN / f"google_{name}.npz", said, references)
    with np.load(GOLDEN / "timm_mixer_expected.npz") as file:
        path, library = GOLDEN / "timm_mixer.safetensors", _library("timm", _timm_versions())
        yield Case("timm_mixer", library, path, {}, [dict(file)])


def _timm_versions() -> dict[str, str]:
    return json.loads((GOLDEN / "timm_families.json").read_text(encoding="utf-8"))["versions"]


def _library(kind: str, versions: dict[str, str]) -> str:
    return LIBRARIES[kind].format(**versions)


def _pair(size: Any) -> Any:
    return tuple(size) if isinstance(size, list) else size


def _recorded(file: str) -> list[dict[str, np.ndarray]]:
    """What was computed at each size: the arrays whose names begin with `0.`, then those with `1.`, and so on."""
    with np.load(GOLDEN / file) as arrays:
        numbers = sorted({int(name.partition(".")[0]) for name in arrays})
        return [{n.partition(".")[2]: arrays[n] for n in arrays if n.startswith(f"{i}.")} for i in numbers]


def difference(model: mv.nn.Module, reference: dict[str, np.ndarray]) -> float:
    """The largest of the differences between what a model computes and what was recorded."""
    trace = mv.trace(model, reference["images"], keep=("logits", "final", "attention"))
    found = {"logits": trace.logits, "final": trace.final}
    found |= {"attention": trace.attention[-1]} if trace.attention else {}
    return max(_relative(found[what], reference[what]) for what in found.keys() & reference.keys())


def through_onnx(model: mv.nn.Module) -> float | None:
    """The largest difference between a model and its exported graph in onnxruntime, logits and each layer's attention."""
    if not all(importlib.util.find_spec(package) for package in ("onnx", "onnxruntime")):
        return None
    import onnxruntime

    from minivit.interop.onnx import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        to_onnx(model, attention=True).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(0).random((3, *model.image_size, model.config["in_channels"]), np.float32)
    trace = mv.trace(model, images, keep=("logits", "attention"))
    found = session.run(None, {"images": images})
    return max(_relative(a, b) for a, b in zip(found, [trace.logits, *trace.attention], strict=True))


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max() / max(1, np.abs(expected).max()))


def measure() -> dict[tuple[str, str, str], Row]:
    """By family, library and container."""
    rows: dict[tuple[str, str, str], Row] = {}
    for case in cases():
        model = mv.load_pretrained(case.path, **case.said)
        container = "folder" if case.path.is_dir() else CONTAINERS[case.path.suffix]
        # Without a head, timm's names are DINO's, and so is the family; at its own size nothing differs.
        family = "timm ViT without a head" if case.name == "timm_features" else model.source.family
        row = rows.setdefault((family, case.library, container), Row())
        row.models += 1
        measured = [(bool(i), difference(model, reference)) for i, reference in enumerate(case.references)]
        for column, value in [*measured, (2, through_onnx(model))]:
            if value is not None:
                row.worst[column] = max(value, row.worst[column] or 0.0)
    return rows


def table(rows: dict[tuple[str, str, str], Row]) -> str:
    """As Markdown."""
    lines = ["| family | computed by | container | models | own size | another size | through ONNX |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for (family, library, container), row in sorted(rows.items()):
        numbers = ["–" if value is None else f"{value:.0e}" for value in row.worst]
        lines.append(f"| {family} | {library} | {container} | {row.models} | {' | '.join(numbers)} |")
    return "\n".join([*lines, "", NOTE.format(asked=f"{TOLERANCE:.0e}")])


def main() -> int:
    """Print the table; 1 where a family does not agree."""
    rows = measure()
    print(table(rows))
    return int(any(value is not None and value > TOLERANCE for row in rows.values() for value in row.worst))


if __name__ == "__main__":
    sys.exit(main())

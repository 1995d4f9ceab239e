"""What a study looks at: models trained here and kept under a key, or weights and pictures that the user names."""

import contextlib
import contextvars
import dataclasses
import hashlib
import json
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import minivit as mv
from minivit.data.dataset import Dataset
from minivit.data.image_files import SUFFIXES
from minivit.engine.errors import ConfigError, DataError
from minivit.models.presets import build
from minivit.nn.module import Module
from minivit.studies.report import Config
from minivit.training.infer import prepare
from minivit.training.loop import TrainConfig
from minivit.training.recipes import recipe

_earlier: contextvars.ContextVar[list[float] | None] = contextvars.ContextVar("earlier", default=None)


def untrained(kind: str, data: Dataset, seed: int, **sizes: Any) -> Module:
    """A model of this preset (`vit`: the one that fits the data) for these images, as it is before training; with `meta`."""
    if kind == "vit":
        kind = recipe(_family(data))[0]
    h, w = data.image_size
    fitted = {"image_size": h if h == w else (h, w), "in_channels": data.in_channels, "num_classes": data.num_classes}
    model = mv.create(kind, **{**fitted, "seed": seed, **sizes})
    model.meta = {"name": data.name, "class_names": list(data.class_names), "mean": data.mean, "std": data.std}
    model.meta = json.loads(json.dumps(model.meta))  # lists, as in a file
    return model.eval()


def trained(
    config: Config, kind: str, data: Dataset, seed: int, sizes: dict[str, Any] | None = None, **options: Any
) -> Module:
    """A model trained on `data.train` by the recipe of its data set, changed by the options of `mv.fit`; in eval mode.

    It is kept in `config.folder` under everything that decides its weights, so that a second call, of this study or
    another, finds it there, and an interrupted one goes on. Raises `KeyboardInterrupt` where Ctrl-C ended the training.
    """
    model = untrained(kind, data, seed, **(sizes or {}))
    options = {**recipe(_family(data), None if kind == "vit" else kind)[1], **options, "seed": seed}
    deciding = [type(model).__name__, model.config, dataclasses.asdict(TrainConfig.of(options))]
    digest = hashlib.sha256(json.dumps([deciding, _contents(data)], sort_keys=True).encode()).hexdigest()[:12]
    name = re.sub(r"[^\w.-]+", "-", data.name)[-40:]  # folder:my/pictures
    folder = Path(config.folder) / "study-models" / f"{kind}-{name}-s{seed}-{digest}"
    before = _seconds(folder)
    if config.progress and before is None:
        print(f"minivit: training {kind} on {data.name}, seed {seed}", file=sys.stderr)
    result = mv.fit(model, data, out=folder, resume=True, progress=config.progress, **options)
    if result.interrupted:
        raise KeyboardInterrupt
    if before and (earlier := _earlier.get()) is not None:
        earlier.append(before)
    return model


def fresh(model: Module) -> Module:
    """The untrained twin of any model: the same class and sizes, new weights; images are prepared as for the model."""
    twin = build(type(model).__name__, model.config)
    twin.meta = model.meta
    if getattr(model, "preprocess", None):
        twin.preprocess = model.preprocess
    return twin.eval()


def opened(config: Config) -> list[Module]:
    """The models in `config.checkpoints`, each the folder of a run or a file of weights, in eval mode.

    Raises `ConfigError` where there is no such file, or where seeds were asked for, which given weights do not have.
    """
    if config.seeds:
        raise ConfigError(f"{config.study}: there is no use for --seeds with --checkpoint")
    return [_open(Path(name), config.settings) for name in config.checkpoints]


def pictures(config: Config, model: Module, most: int) -> np.ndarray:
    """Up to `most` images (n, H, W, C), ready for a model: those in `config.images`, else test images of its data set.

    Images of a folder are taken in the order of their names, subfolders included, and prepared as the model's source
    prepared them. Raises `ConfigError` or `DataError` where there are none.
    """
    if config.images is not None:
        return _from_folder(Path(config.images), model, most)
    if model.meta is None or not model.meta.get("name"):
        raise ConfigError(f"{config.study}: these weights do not come with images; name a folder with --images DIR")
    data = mv.data.load(config.data or model.meta["name"], data_dir=config.data_dir)
    if data.train.images.shape[1:] != (*model.image_size, model.config["in_channels"]):
        raise ConfigError(
            f"{data.name} has images {data.train.images.shape[1:]}, the model reads "
            f"{(*model.image_size, model.config['in_channels'])}"
        )
    return prepare(data.test.images[:most], model.meta)


def preparation(model: Module) -> tuple[np.ndarray, np.ndarray]:
    """What a model's images are shifted and divided by, float32 (C,) each: 0 is their mean colour, −mean/std black.

    Raises `ConfigError` for a model that says nothing about them; one that came from a file always does.
    """
    told = model.meta or (vars(model.preprocess) if getattr(model, "preprocess", None) else None)
    if told is None:
        raise ConfigError(
            "this model does not know how its images are standardised; set model.meta = {'mean': …, 'std': …}"
        )
    return np.asarray(told["mean"], np.float32), np.asarray(told["std"], np.float32)


@contextlib.contextmanager
def earlier_training() -> Iterator[list[float]]:
    """Inside, the seconds that reused models once took to train are collected in the list."""
    token = _earlier.set([])
    try:
        yield _earlier.get()
    finally:
        _earlier.reset(token)


def _family(data: Dataset) -> str:
    return data.name.partition(":")[0]


def _contents(data: Dataset) -> list[Any]:
    """What training sees of a data set, as numbers that change with any of its bytes."""
    parts = [a for split in (data.train, data.val) for a in (split.images, split.labels)]
    return [data.name, len(data.class_names), *(zlib.crc32(np.ascontiguousarray(a).tobytes()) for a in parts)]


def _seconds(folder: Path) -> float | None:
    """How long the model in a folder was trained so far; `None` where there is none."""
    lines = folder / "metrics.jsonl"
    if not (folder / "checkpoint.safetensors").exists() or not lines.exists():
        return None
    written = lines.read_text().splitlines()
    return json.loads(written[-1])["seconds"] if written else 0.0


def _open(path: Path, settings: dict[str, Any]) -> Module:
    run = path / "checkpoint.safetensors"
    path = run if run.exists() else path
    if not path.exists():
        raise ConfigError(f"{path} does not exist; give a file of weights, or the folder of a run")
    return mv.load_pretrained(path, **settings)


def _from_folder(folder: Path, model: Module, most: int) -> np.ndarray:
    if not folder.is_dir():
        raise DataError(f"--images {folder}: there is no such folder")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))[:most]
    if not paths:
        raise DataError(f"--images {folder}: holds no images; their names end in {', '.join(sorted(SUFFIXES))}")
    return np.concatenate([model.preprocess(p) for p in paths])

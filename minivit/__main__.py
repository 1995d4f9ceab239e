"""The command line: `minivit train | eval | predict | look | …`. It parses, calls the library and prints."""

import argparse
import contextlib
import json
import os
import shlex
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import minivit as mv
from minivit.engine.backend import get_backend
from minivit.engine.errors import CheckpointError, ConfigError, DataError, MinivitError, did_you_mean
from minivit.interop import own, safetensors, saved
from minivit.interop.stored import NAMES, open_tensors

OVERVIEW = """\
minivit: a Vision Transformer from scratch, in NumPy (and CuPy).

  minivit train                  train a ViT on 1,797 handwritten digits, about a minute
  minivit eval MODEL             its loss and accuracy on a data set
  minivit predict MODEL IMAGE…   what it sees in your own PNG or JPEG files
  minivit look MODEL IMAGE       where it looks: attention maps and rollout, as a PNG
  minivit info [MODEL]           this machine and its libraries; or what is in a file of weights
  minivit convert MODEL OUT      any model's weights by timm's names, as safetensors
  minivit export MODEL OUT       a model as an ONNX graph
  minivit data [NAME]            the data sets; or one of them, with a contact sheet
  minivit study [NAME]           the findings of the literature; or one of them, measured here

MODEL is the folder that `minivit train` wrote, or a file of weights, or a folder with config.json and weights: minivit's
own, or published ones (timm, Google, DeiT, DINO, Hugging Face, lucidrains). An IMAGE may also be a test image of a data
set, as in digits:7. `minivit COMMAND --help` says more about each.

Environment: MINIVIT_BACKEND=cupy computes on a GPU; MINIVIT_DATA is a folder with data sets; MINIVIT_DEBUG=1 shows
where in the program an error arose.
"""

SIZES = {  # option of `train` -> argument of the model, and what it says
    "--patch-size": ("patch_size", "whole", "P", "side of a patch in pixels"),
    "--dim": ("dim", "whole", "D", "width of a token"),
    "--depth": ("depth", "whole", "L", "number of blocks"),
    "--heads": ("num_heads", "whole", "N", "attention heads in a block"),
    "--mlp-ratio": ("mlp_ratio", "number", "R", "width of the MLP, in multiples of D"),
    "--pool": ("pool", "text", "HOW", "cls (a class token) or mean (of the patches)"),
    "--positions": ("positions", "text", "HOW", "learned, learned_sincos, sincos or none"),
    "--registers": ("registers", "whole", "N", "extra learned tokens"),
    "--drop-path": ("drop_path", "number", "P", "stochastic depth, up to this rate"),
    "--patch-dropout": ("patch_dropout", "number", "P", "share of patches hidden in training"),
}
OPTIONS = {  # option of `train` -> field of TrainConfig, and what it says
    "--epochs": ("epochs", "whole", "N", "times through the training images"),
    "--batch-size": ("batch_size", "whole", "B", "images in a step"),
    "--lr": ("lr", "number", "RATE", "peak learning rate"),
    "--weight-decay": ("weight_decay", "number", "W", "of matrices only"),
    "--warmup": ("warmup", "number", "SHARE", "share of all steps in which the rate rises"),
    "--clip": ("clip", "number", "NORM", "bound on the gradient's norm; 0 for none"),
    "--smoothing": ("smoothing", "number", "S", "label smoothing"),
    "--augment": ("augment", "text", "NAMES", "none, or some of affine, flip, shift, erase joined by +"),
    "--mixup": ("mixup", "number", "A", "blend pairs of images, λ ~ Beta(A, A); 0 for none"),
    "--cutmix": ("cutmix", "number", "A", "paste rectangles of other images; 0 for none"),
    "--ema": ("ema", "number", "DECAY", "average the weights; 0 for none"),
    "--accumulate": ("accumulate", "whole", "N", "cut each batch into N parts, to save memory"),
    "--patience": ("patience", "whole", "N", "stop after N epochs without a better validation loss; 0 for never"),
    "--optimizer": ("optimizer", "text", "NAME", "adamw or sgd"),
    "--shards": ("shards", "whole", "N", "parts of a batch computed side by side"),
    "--seed": ("seed", "whole", "N", "of the weights, the order and the augmentation"),
}
PICTURES = ("learning_curves.png", "predictions.png", "attention.png")
WRITTEN = ("result.json", "checkpoint.safetensors", "metrics.jsonl", *PICTURES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 after an error (one line on stderr), 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that cannot show `×` shows `?` rather than a traceback
    try:
        code = _dispatch(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever was reading, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        print("minivit: interrupted", file=sys.stderr)
        return 130
    except MemoryError as error:
        if os.environ.get("MINIVIT_DEBUG"):
            raise
        return _fail(f"not enough memory: {error}; choose smaller sizes or a smaller batch")
    except (MinivitError, OSError) as error:
        if os.environ.get("MINIVIT_DEBUG"):
            raise
        return _fail(error)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(OVERVIEW, end="")
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"minivit {mv.__version__}")
        return 0
    if argv[0] not in COMMANDS:
        raise ConfigError(
            f"unknown command {argv[0]!r}{did_you_mean(argv[0], COMMANDS)}; commands are {', '.join(COMMANDS)}"
        )
    make, command = COMMANDS[argv[0]]
    parser = make()
    try:
        args, rest = parser.parse_known_args(argv[1:])
    except SystemExit as done:  # after --help
        return int(done.code or 0)
    if rest:
        known = [option for action in parser._actions for option in action.option_strings]
        option = rest[0].partition("=")[0]
        what = "option" if option.startswith("-") else "argument"
        raise ConfigError(
            f"{argv[0]}: unknown {what} {option!r}{did_you_mean(option, known)}; see `{parser.prog} --help`"
        )
    return command(args)


def _fail(error: object) -> int:
    if isinstance(error, OSError) and error.filename is not None:
        error = f"{error.filename}: {error.strerror}"
    print("minivit:", " ".join(str(error).split()), file=sys.stderr)
    return 2


def _note(text: str) -> None:
    print(f"minivit: note: {text}", file=sys.stderr)


# ---------------------------------------------------------------- train


def _train_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "train",
        "",
        "Train a model and write checkpoint, metrics, result and pictures into a folder.",
        "minivit train",
        "minivit train --data fashion-mnist --out runs/fashion",
        "minivit train --data folder:my/pictures --image-size 64 --patch-size 8 --epochs 30",
        "minivit train --model cnn --seed 1",
        "minivit train --out runs/fashion --resume        go on after Ctrl-C",
    )
    parser.add_argument("--data", metavar="NAME", help=f"{', '.join(mv.data.names())} or folder:PATH (default: digits)")
    parser.add_argument("--data-dir", metavar="DIR", help="where the files of the data set are, if you have them")
    parser.add_argument(
        "--image-size", type=_positive, metavar="PIXELS", help="for folder: side of the images (default: 32)"
    )
    parser.add_argument("--out", metavar="DIR", help="where to write (default: runs/DATA-MODEL-sSEED)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its own options")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--profile", action="store_true", help="print where the time went, operation by operation")
    parser.add_argument("--backend", metavar="NAME", help="numpy, or cupy on a GPU")
    parser.add_argument(
        "--dtype", type=_one_of("float32", "float64"), metavar="TYPE", help="float32 (default) or float64"
    )
    parser.add_argument(
        "--workers", type=_positive, metavar="N", help="threads or processes; the result does not depend on them"
    )
    model = parser.add_argument_group("the model (a preset, and what to change in it)")
    model.add_argument(
        "--model", metavar="NAME", help=f"{', '.join(mv.presets)}, linear or cnn (default: one that fits the data)"
    )
    _add_options(model, SIZES)
    training = parser.add_argument_group("training (defaults fit the data set)")
    _add_options(training, OPTIONS)
    words = "workers are processes instead of threads: faster for small models, on Linux only"
    training.add_argument("--processes", action="store_const", const=True, help=words)
    return parser


def _train(args: argparse.Namespace) -> int:
    import numpy as np

    from minivit.training import report as reports

    sizes, options = _given(args, SIZES), _given(args, OPTIONS | {"--processes": ("processes",)})
    if args.backend:
        mv.use(args.backend)
    if args.resume:
        model, dataset, folder, options = _resumed(args, sizes, options)
    else:
        model, dataset, folder, options = _fresh(args, sizes, options)
    if args.dtype:
        model.astype(args.dtype)
    name = type(model).__name__
    print(
        f"{dataset.name}: {len(dataset.train):,} training images · {name}, {model.num_parameters():,} parameters · {folder}"
    )
    sys.stdout.flush()
    watching = mv.profile() if args.profile else contextlib.nullcontext()
    # fit itself stops, in one line, where the loss is no number
    with watching as profile, np.errstate(over="ignore", invalid="ignore"):
        result = mv.fit(
            model, dataset, out=folder, resume=args.resume, progress=not args.quiet, workers=args.workers, **options
        )
    if profile is not None:
        print(f"\n{profile.table()}\n")
    if result.interrupted:
        again = {"--data-dir": args.data_dir, "--backend": args.backend, "--workers": args.workers, "--out": folder}
        words = [f"{k} {shlex.quote(str(v))}" for k, v in again.items() if v is not None]
        print(f"\nStopped after step {result.step:,}; everything is saved. To go on:")
        print(f"  minivit train {' '.join(words)} --resume")
        return 130
    report = reports.report(model, dataset, result)
    with safetensors.replacing(folder / "result.json") as file:
        file.write((json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    pictures = _pictures(model, dataset, result, folder)
    right = round(report["test_accuracy"] * len(dataset.test))
    print(
        f"Test accuracy {100 * report['test_accuracy']:.2f} % ({right:,} of {len(dataset.test):,} right), "
        f"loss {report['test_loss']:.4f}, after {len(result.history)} epochs in {report['seconds']:.0f} s."
    )
    print(f"Saved in {folder}: checkpoint.safetensors, metrics.jsonl, result.json, {', '.join(pictures)}.")
    if "attention.png" in pictures and dataset.name in mv.data.names():
        print(f"Look inside: minivit look {shlex.quote(str(folder))} {dataset.name}:0")
    return 0


def _fresh(args: argparse.Namespace, sizes: dict, options: dict) -> tuple:
    """A new run: the recipe of the data set, changed by what was given."""
    from minivit.training.loop import TrainConfig
    from minivit.training.recipes import recipe

    data_name = args.data or "digits"
    preset, defaults = recipe(data_name.partition(":")[0], args.model)
    options = defaults | options
    slug = Path(data_name.removeprefix("folder:")).name or "folder"
    folder = Path(args.out or f"runs/{slug}-{preset}-s{options.get('seed', 0)}")
    TrainConfig.of(options)  # raises before anything takes time
    dataset = mv.data.load(data_name, data_dir=args.data_dir, **_given(args, {"": ("image_size",)}))
    h, w = dataset.image_size
    fitted = {"image_size": h if h == w else (h, w), "in_channels": dataset.in_channels}
    fitted |= {"num_classes": dataset.num_classes, "seed": options.get("seed", 0)}
    _affordable(mv.presets.get(preset, {}) | fitted | sizes)
    model = mv.create(preset, **fitted, **sizes)
    _free(folder, args.overwrite)
    if args.overwrite:
        for name in WRITTEN:
            (folder / name).unlink(missing_ok=True)
    return model, dataset, folder, options


def _affordable(sizes: dict[str, Any]) -> None:
    """Raises `ConfigError` for a model that this machine's memory could never hold, before trying for minutes."""
    dim, depth, ratio = (abs(sizes.get(name, 0)) for name in ("dim", "depth", "mlp_ratio"))
    numbers = depth * dim * dim * (4 + 2 * ratio) + abs(sizes.get("registers", 0)) * dim
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**40
    if 16 * numbers > memory:  # a weight, its gradient and two moments, 4 bytes each
        raise ConfigError(
            f"dim {dim}, depth {depth}, mlp_ratio {ratio:g}: about {numbers:.1e} parameters need {16 * numbers / 2**30:,.0f} "
            f"GiB to be trained, this machine has {memory / 2**30:,.0f}; choose smaller sizes"
        )


def _free(folder: Path, overwrite: bool) -> None:
    """Raises `ConfigError` where a new run would destroy another one."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file; name a folder")
    if overwrite:
        return
    if (folder / "result.json").exists():
        raise ConfigError(f"{folder} holds a finished run; choose another --out, or --overwrite it")
    if (folder / "checkpoint.safetensors").exists():
        raise ConfigError(f"{folder} holds an unfinished run; --resume it, --overwrite it, or choose another --out")


def _resumed(args: argparse.Namespace, sizes: dict, options: dict) -> tuple:
    """The run in a folder, as it was started; raises `ConfigError` where what was given says otherwise."""
    if not args.out or args.overwrite:
        raise ConfigError("--resume needs --out RUN, the folder of the run, and no --overwrite")
    folder = Path(args.out)
    if not folder.is_dir():
        raise ConfigError(f"nothing to resume: there is no folder {folder}{did_you_mean(str(folder), _runs())}")
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        _note(f"{folder} holds no checkpoint yet; starting from the beginning")
        return _fresh(args, sizes, options)
    tensors, metadata = safetensors.read(path)
    model = saved.rebuild(path, metadata)
    _check_meta(path, model)
    if model.meta is None:
        raise ConfigError(f"{path} holds a model but no training run; there is nothing to resume")
    asked = _preset(args.model) | sizes | ({"data": args.data} if args.data else {})
    started = model.config | {"data": model.meta["name"], "model": type(model).__name__}
    for key, value in asked.items():
        if started.get(key) != value:
            raise ConfigError(
                f"{folder} was started with {key}={started.get(key)}; it cannot be resumed with {key}={value}"
            )
    dtype = next(a for name, a in tensors.items() if not name.startswith(saved.TRAINING_ONLY)).dtype.name
    if args.dtype not in (None, dtype):
        raise ConfigError(f"{folder} was started with dtype={dtype}; it cannot be resumed with dtype={args.dtype}")
    return model.astype(dtype), _data_of(model, args.data_dir), folder, options


def _preset(name: str | None) -> dict[str, Any]:
    """The class and the sizes that a model's name stands for, but for those that follow from the data."""
    if name is None:
        return {}
    if name not in mv.presets:
        return {"model": type(mv.create(name)).__name__}
    return {"model": "ViT"} | {
        k: v for k, v in mv.presets[name].items() if k not in ("image_size", "in_channels", "num_classes")
    }


def _runs() -> list[str]:
    return [str(path.parent) for path in Path("runs").glob("*/checkpoint.safetensors")]


def _pictures(model: Any, dataset: Any, result: Any, folder: Path) -> list[str]:
    """Draw what a run learned; returns the names of the files."""
    from minivit import viz
    from minivit.training.infer import predict

    title = (
        f"{dataset.name}, {type(model).__name__} with {model.num_parameters():,} parameters, seed {result.config.seed}"
    )
    c = result.config
    harder = c.augment != "none" or c.mixup or c.cutmix or c.smoothing
    note = "Training loss: with augmented images or softened labels, so it may be the higher one." if harder else ""
    figures = {"learning_curves.png": viz.learning_curves(result.history, title=title, note=note)}
    test = dataset.test
    heading = f"{dataset.name}, test images, mistakes first"
    shares = predict(model, test.images)
    figures["predictions.png"] = viz.predictions(test.images, shares, test.labels, dataset.class_names, title=heading)
    images, labels = test.images[:8], test.labels[:8]
    attention = _attention(model, images)
    if attention:
        from minivit.models.presets import build

        before = build(type(model).__name__, model.config)
        before.meta = model.meta
        figures["attention.png"] = viz.class_attention(
            images, attention[-1], **_where(model, images), untrained=_attention(before, images)[-1],
            captions=[dataset.class_names[k] for k in labels],
        )  # fmt: skip
    for name, figure in figures.items():
        viz.save(figure, folder / name)
    return list(figures)


# ---------------------------------------------------------------- eval, predict, look


def _eval_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "eval",
        "MODEL ",
        "Loss and accuracy of a trained model on one part of a data set.",
        "minivit eval runs/digits-vit_digits-s0",
        "minivit eval runs/digits-vit_digits-s0 --split val",
    )
    _model_options(parser)
    parser.add_argument("--data", metavar="NAME", help="default: the set that the model was trained on")
    parser.add_argument("--data-dir", metavar="DIR", help="where the files of the data set are, if you have them")
    parser.add_argument(
        "--split", type=_one_of("train", "val", "test"), default="test", help="train, val or test (default)"
    )
    parser.add_argument("--backend", metavar="NAME", help="numpy, or cupy on a GPU")
    return parser


def _eval(args: argparse.Namespace) -> int:
    if args.backend:
        mv.use(args.backend)
    model = _model(args, classes=True)
    dataset = _data_of(model, args.data_dir, args.data)
    _note_silence(model)
    split = dataset.parts[args.split]
    if not len(split):
        raise DataError(f"{dataset.name} has no {args.split} images")
    loss, accuracy = mv.evaluate(model, split)
    low, high = _interval(round(accuracy * len(split)), len(split))
    print(f"{dataset.name}, {args.split}: {len(split):,} images")
    print(f"accuracy {100 * accuracy:.2f} % (95 % interval {100 * low:.1f} to {100 * high:.1f}), loss {loss:.4f}")
    return 0


def _interval(right: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a share: what other test images of the same kind might have given."""
    z, p = 1.96, right / n
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def _predict_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "predict",
        "MODEL IMAGE… ",
        "The three most likely classes of each image. Images are prepared as those were that the model was trained on.",
        "minivit predict runs/digits-vit_digits-s0 digits:0 digits:1",
        "minivit predict vit_base_patch16_224.safetensors cat.jpg",
        "minivit predict runs/digits-vit_digits-s0 photo.jpg --invert      dark ink on white paper",
    )
    _image_options(parser)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="PNG, JPEG, …, or a test image such as digits:7")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _predict(args: argparse.Namespace) -> int:
    model = _model(args, classes=True)
    read = [_image(name, model, args.invert) for name in args.images]
    _note_silence(model)
    rows = _top(model, [image for image, _ in read], 3)
    if args.json:
        found = [
            {"image": name, "top": [{"class": c, "probability": p} for c, p in row]}
            for name, row in zip(args.images, rows, strict=True)
        ]
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return 0
    print(f"Images as the model sees them: {_preparation(model, args.invert)}.")
    for name, (_, truth), row in zip(args.images, read, rows, strict=True):
        answers = ", ".join(f"{c} ({100 * p:.1f} %)" for c, p in row)
        print(f"{name}: {answers}" + (f"; it is {truth}" if truth is not None else ""))
    return 0


def _look_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "look",
        "MODEL IMAGE ",
        "Where a model looks in one image: attention for each layer and head, their mean, and rollout, as a PNG. "
        "Attention says where values were fetched from, not why the answer came out. A model without attention (a Mixer, a "
        "CNN) is shown by the gradient of its answer.",
        "minivit look runs/digits-vit_digits-s0 digits:7",
        "minivit look vit.safetensors photo.jpg --layer 0 11 --patch 1,3 -o corner.png",
    )
    _image_options(parser)
    parser.add_argument("image", metavar="IMAGE", help="PNG, JPEG, …, or a test image such as digits:7")
    parser.add_argument("-o", "--out", metavar="FILE", help="where to write (default: look-IMAGE.png)")
    parser.add_argument("--layer", type=_whole, nargs="+", metavar="L", help="only these layers, counted from 0")
    parser.add_argument("--head", type=_whole, nargs="+", metavar="H", help="only these heads, counted from 0")
    parser.add_argument("--patch", type=_place, metavar="ROW,COL", help="where this patch looks, not the class token")
    return parser


def _look(args: argparse.Namespace) -> int:
    from minivit import viz

    model = _model(args)
    image, _ = _image(args.image, model, args.invert)
    _note_silence(model)
    shown = {
        "title": Path(args.image).name,
        "answers": _top(model, [image], 5)[0] if model.config["num_classes"] else (),
    }
    if model.meta["name"] is None and model.config["num_classes"] and not getattr(model.source, "labels", None):
        shown["note"] = "(the file holds no names of classes)"
    attention = _attention(model, image[None])
    if attention:
        where = _where(model, image[None]) | {"pooling": _pooling(model, image[None])}
        if args.patch is not None:
            where["query"] = args.patch
        figure = viz.look(image, [a[0] for a in attention], layers=args.layer, heads=args.head, **where, **shown)
    else:
        if any(option is not None for option in (args.layer, args.head, args.patch)):
            raise ConfigError(f"a {type(model).__name__} has no attention: leave out --layer, --head and --patch")
        if not model.config["num_classes"]:
            shown["note"] = "(without classes, the answer is the largest feature)"
        figure = viz.influence(image, _influence(model, image), kind=type(model).__name__, **shown)
    out = Path(args.out or f"look-{Path(shown['title'].replace(':', '-')).stem}.png")
    viz.save(figure, out)
    print(figure.alt)
    print(f"Written to {out}")
    return 0


def _image_options(parser: argparse.ArgumentParser) -> None:
    _model_options(parser)
    parser.add_argument(
        "--invert", action="store_true", help="swap dark and bright first: ink on paper to the white on black"
    )


def _model_options(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    parser.add_argument(
        "checkpoint",
        metavar="MODEL",
        nargs="?" if optional else None,
        help="a file of weights, or the folder of a run or of a published model",
    )
    parser.add_argument(
        "--set",
        action="append",
        type=_setting,
        metavar="NAME=VALUE",
        help="of published weights: what they cannot say (num_heads=6, eps=1e-12, mlp=gelu_tanh), another image_size, or "
        "which part of a file (part=student)",
    )


def _model(args: argparse.Namespace, classes: bool = False) -> Any:
    """The model in a file or folder, whoever wrote it, with `meta` filled where the file is silent."""
    model = _opened(args)
    number, channels = model.config["num_classes"], model.config["in_channels"]
    if classes and not number:
        raise ConfigError(f"{args.checkpoint}: this model has no classes; it gives features only")
    _check_meta(_path(args.checkpoint), model)
    prepare, labels = getattr(model, "preprocess", None), getattr(model.source, "labels", None)
    names = labels if labels and len(labels) == number else [f"class {i}" for i in range(number)]
    silent = {"name": None, "class_names": names, "mean": [0.5] * channels, "std": [0.5] * channels}
    told = {"mean": list(prepare.mean), "std": list(prepare.std)} if prepare else {}
    model.meta = silent | (model.meta or told)
    return model


def _opened(args: argparse.Namespace, strict: bool = True) -> Any:
    """The model as its file has it: `mv.load` for minivit's own files, `mv.load_pretrained` for others."""
    path, given = _path(args.checkpoint), dict(args.set or ())
    if not given and own.recognises(open_tensors(path)[1]):
        return mv.load(path)
    return mv.load_pretrained(path, strict=strict, **given)


def _path(checkpoint: str) -> Path:
    """The file or folder that holds the weights. Raises `ConfigError` where there is none."""
    path = Path(checkpoint)
    run = path / "checkpoint.safetensors"
    if run.exists():
        return run
    if not path.exists():
        raise ConfigError(f"{checkpoint} does not exist{did_you_mean(checkpoint, _runs())}")
    if path.is_dir() and not any((path / name).exists() for name in (*NAMES, "config.json")):
        raise ConfigError(
            f"{checkpoint} holds no {run.name} of a run, nor {NAMES[0]} and config.json of a published model"
            f"{did_you_mean(checkpoint, _runs())}"
        )
    return path


def _check_meta(path: Path, model: Any) -> None:
    """Raises `CheckpointError` where what a file says of its training data is not what it should be."""
    meta, channels = model.meta, model.config["in_channels"]
    if meta is None:
        return
    lengths = {"class_names": model.config["num_classes"], "mean": channels, "std": channels}
    kinds = {"class_names": str, "mean": (int, float), "std": (int, float)}
    whole = isinstance(meta, dict) and isinstance(meta.get("name"), str)
    for key, kind in kinds.items():
        values = meta.get(key) if whole else None
        if not isinstance(values, list) or len(values) != lengths[key] or not all(isinstance(v, kind) for v in values):
            raise CheckpointError(f"{path}: what it says of its training data is damaged ({key})")


def _note_silence(model: Any) -> None:
    if model.meta["name"] is None and not getattr(model, "preprocess", None):
        _note("the file does not say how images were prepared in training; using mean 0.5 and standard deviation 0.5")


def _data_of(model: Any, data_dir: str | None, name: str | None = None) -> Any:
    """The data set that a model was trained on, or another one. Raises `ConfigError` where they do not go together."""
    meta, (h, w), channels = model.meta, model.image_size, model.config["in_channels"]
    name = name or meta["name"]
    if name is None:
        raise ConfigError("the file does not say what the model was trained on; name a data set with --data")
    shape = {"image_size": (h, w), "channels": channels} if name.startswith("folder:") else {}
    dataset = mv.data.load(name, data_dir=data_dir, **shape)
    if dataset.image_size != (h, w) or dataset.in_channels != channels:
        found = (*dataset.image_size, dataset.in_channels)
        raise ConfigError(f"{name} has images {_shape(*found)}, this model reads {_shape(h, w, channels)}")
    known = meta["class_names"] if meta["name"] else dataset.class_names[: len(meta["class_names"])]
    if list(dataset.class_names) != list(known):
        raise ConfigError(
            f"{name} has the classes {', '.join(dataset.class_names[:4])}, …; this model knows "
            f"{', '.join(meta['class_names'][:4])}, … of {meta['name'] or 'another set'}"
        )
    return dataset


def _image(name: str, model: Any, invert: bool) -> tuple[Any, str | None]:
    """An image file, or NAME:NUMBER of a data set's test part, as float32 (H, W, C) in [0, 1], and its class if known."""
    import numpy as np

    (h, w), channels = model.image_size, model.config["in_channels"]
    set_name, _, number = name.partition(":")
    truth = None
    if set_name in mv.data.names() and number.isdecimal():
        dataset = mv.data.load(set_name)
        if int(number) >= len(dataset.test):
            raise DataError(f"{name}: {set_name} has test images 0 to {len(dataset.test) - 1:,}")
        if dataset.train.images.shape[1:] != (h, w, channels):
            raise DataError(
                f"{name}: is {_shape(*dataset.train.images.shape[1:])}; the model reads {_shape(h, w, channels)}"
            )
        image = mv.data.to_float(dataset.test.images[int(number)])
        truth = dataset.class_names[dataset.test.labels[int(number)]]
    elif model.meta["name"] is None and (prepare := getattr(model, "preprocess", None)):
        image = prepare(name)[0] * np.float32(prepare.std) + np.float32(
            prepare.mean
        )  # as its source did, back in [0, 1]
    else:
        image = mv.data.read_image(name, size=(h, w), channels=channels)
    if invert:
        return 1 - image, truth
    usual = sum(model.meta["mean"]) / channels
    if channels == 1 and truth is None and usual < 0.45 and image.mean() > 0.6:
        _note(f"{name} is mostly bright, the training images were mostly dark; is it ink on paper? Then add --invert")
    return image, truth


def _top(model: Any, images: list, count: int) -> list[list[tuple[str, float]]]:
    """The most likely classes of each image with their probabilities."""
    import numpy as np

    from minivit.training.infer import predict

    shares = predict(model, np.stack(images))
    names = model.meta["class_names"]
    return [[(names[k], float(row[k])) for k in np.argsort(-row, kind="stable")[:count]] for row in shares]


def _preparation(model: Any, invert: bool) -> str:
    numbers = ["/".join(f"{v:.3f}" for v in model.meta[key]) for key in ("mean", "std")]
    swapped = "swapped dark and bright, " if invert else ""
    return f"{_shape(*model.image_size, model.config['in_channels'])}, {swapped}minus {numbers[0]}, divided by {numbers[1]}"


def _attention(model: Any, images: Any) -> list:
    """The attention of every layer over images in [0, 1] or bytes: arrays (B, heads, T, T); empty where there is none."""
    from minivit.training.infer import prepare

    return mv.trace(model, prepare(images, model.meta), keep="attention").attention


def _pooling(model: Any, images: Any) -> Any:
    """The attention of the query that gathers the answer, (heads, 1, T), of a model that has one."""
    from minivit.training.infer import prepare

    if not getattr(model, "attn_pool", None):
        return None
    return mv.trace(model, prepare(images, model.meta), keep="attn_pool.pooling").features["attn_pool.pooling"][0]


def _influence(model: Any, image: Any) -> Any:
    """How strongly each patch of an image in [0, 1] moves the answer of a model: (rows, columns)."""
    from minivit.nn.influence import influence
    from minivit.training.infer import prepare

    return influence(model, prepare(image[None], model.meta), getattr(model, "patch_size", 1))[0]


def _where(model: Any, images: Any) -> dict[str, Any]:
    """What a figure must know of a ViT to draw its attention."""
    h, w = images.shape[1:3]
    grid = h // model.patch_size[0], w // model.patch_size[1]
    query = "class" if model.pool in ("cls", "cls_mean", "cls_dist") else "mean"
    return {"grid": grid, "prefix": model.num_prefix, "query": query}


def _shape(h: int, w: int, channels: int) -> str:
    return f"{h}×{w} {'grey' if channels == 1 else 'RGB' if channels == 3 else f'with {channels} channels'}"


# ---------------------------------------------------------------- info


def _info_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "info",
        "[MODEL] ",
        "This machine, its libraries and data sets; or, given a MODEL, what is in its file: the family, its sizes, what the "
        "weights do not say and where it was taken from, what was left out, and whether everything fits.",
        "minivit info",
        "minivit info runs/digits-vit_digits-s0",
        "minivit info dino_deitsmall16_pretrain.pth",
    )
    _model_options(parser, optional=True)
    return parser


def _info(args: argparse.Namespace) -> int:
    if args.checkpoint is None:
        rows = _about_machine()
    elif not args.set and own.recognises(open_tensors(_path(args.checkpoint))[1]):
        rows = _about_checkpoint(_path(args.checkpoint))
    else:
        rows = _about_published(args)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}".rstrip())
    return 0


ENVIRONMENT = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "CUPY_TF32", "CUDA_VISIBLE_DEVICES", "MINIVIT_BACKEND", "MINIVIT_DATA", "MINIVIT_DEBUG",
)  # fmt: skip


def _about_machine() -> list[tuple[str, Any]]:
    from minivit.training import report

    rows = list(report.versions().items())
    machine = report.machine()
    rows += [("system", machine["system"]), ("processor", f"{machine['processor']}, {machine['cores']} cores to use")]
    for library in report.blas():
        rows.append(
            ("BLAS", f"{library['library']} {library['version']}, {library['kernels']}, {library['threads']} threads")
        )
    for name in ENVIRONMENT:
        if name in os.environ:
            told = " (chooses slower or faster kernels: unset it to measure)" if name == "OPENBLAS_CORETYPE" else ""
            rows.append((name, os.environ[name] + told))
    rows.append(("backends", f"numpy, {_gpu()}"))
    return rows + [(f"data: {name}", _found(name)) for name in mv.data.names()]


def _gpu() -> str:
    try:
        get_backend("cupy")
        import cupy

        device = cupy.cuda.runtime.getDeviceProperties(0)
        memory = device["totalGlobalMem"] / 2**30
        return f"cupy {cupy.__version__} on {device['name'].decode()} with {memory:.0f} GiB"
    except MinivitError as error:
        return f"no cupy ({str(error).removeprefix(_CUPY)})"


_CUPY = "backend 'cupy': "


def _found(name: str) -> str:
    """Where the files of a data set are on this machine, without fetching any."""
    if name in MADE:
        return MADE[name]
    import pooch

    places = [Path(os.environ["MINIVIT_DATA"]) / name] if os.environ.get("MINIVIT_DATA") else []
    places += [Path("/usr/share/datasets") / name, Path(pooch.os_cache("minivit")) / name]
    here = [place for place in places if place.is_dir() and any(place.iterdir())]
    return f"in {here[0]}" if here else "not here yet; downloaded when first used, or give --data-dir"


MADE = {"digits": "embedded", "shapes": "drawn by the program", "twin": "drawn by the program"}


def _about_published(args: argparse.Namespace) -> list[tuple[str, Any]]:
    """What another library's file holds; it need not fit."""
    path = _path(args.checkpoint)
    tensors, _ = open_tensors(path)
    kinds = ", ".join(sorted({t.dtype for t in tensors.values()}))
    size = f", {path.stat().st_size:,} bytes" if path.is_file() else ""
    model = _opened(args, strict=False)
    rows = [("file", f"{path}, {len(tensors)} tensors of {kinds}{size}"), ("family", model.source.family)]
    rows += [("model", type(model).__name__), ("parameters", f"{model.num_parameters():,}")]
    rows += [(f"  {key}", value) for key, value in model.config.items() if key != "seed"]
    rows += _about_source(model)
    if model.complaints:
        return rows + [("does not fit", "")] + [("", complaint) for complaint in model.complaints]
    return rows + [("agreement", "every tensor of the file is used or left out above, every parameter was found")]


def _about_source(model: Any) -> list[tuple[str, Any]]:
    """What a file did not say, what was left out of it, and how its images are prepared."""
    source, prepare, rows = model.source, getattr(model, "preprocess", None), []
    if source:
        rows += [("assumed", "")] * bool(source.assumed) + [(f"  {key}", why) for key, why in source.assumed.items()]
        reasons: dict[str, list[str]] = {}
        for name, why in source.ignored.items():
            reasons.setdefault(why, []).append(name)
        rows += [("left out", "")] * bool(reasons)
        rows += [("", f"{_listed(names, 3)}: {why}") for why, names in reasons.items()]
    if prepare:
        h, w = prepare.size
        rows += [("images", f"{_shape(h, w, len(prepare.mean))}, {prepare.resize} resize, {prepare.interpolation}")]
        rows += [(f"  {key}", ", ".join(f"{v:.4f}" for v in getattr(prepare, key))) for key in ("mean", "std")]
    if source and source.labels:
        rows += [("classes", _listed(source.labels, 12))]
    return rows


def _listed(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (f", … ({len(names)})" if len(names) > most else "")


def _about_checkpoint(path: Path) -> list[tuple[str, Any]]:
    from minivit.training import checkpoint as checkpoint_file

    tensors, metadata = safetensors.read(path)
    model = saved.rebuild(path, metadata)
    weights = [a for name, a in tensors.items() if not name.startswith(saved.TRAINING_ONLY)]
    rows = [("file", f"{path}, {path.stat().st_size:,} bytes"), ("model", type(model).__name__)]
    rows += [("parameters", f"{model.num_parameters():,} in {len(weights)} tensors of {weights[0].dtype.name}")]
    rows += [(f"  {key}", value) for key, value in model.config.items()]
    _check_meta(path, model)
    if model.meta:
        rows += [("trained on", model.meta["name"]), ("  classes", _listed(model.meta["class_names"], 12))]
        rows += [(f"  {key}", ", ".join(f"{v:.4f}" for v in model.meta[key])) for key in ("mean", "std")]
    rows += [("came from", model.source.family)] if model.source else []
    rows += _about_source(model) if model.source or not model.meta else []
    if "training" in metadata:
        state = checkpoint_file.training_state(path, metadata)
        try:
            last = state["history"][-1] if state["history"] else {}
            rows.append(
                ("training", f"{'finished' if state['finished'] else 'unfinished'} after step {state['step']:,}")
            )
            rows += [(f"  {key}", value) for key, value in state["config"].items()]
            rows += [("last epoch", last["epoch"])] if last else []
            rows += [
                (f"  {key}", f"{last[key]:.4f}") for key in ("train_loss", "val_loss", "val_accuracy") if key in last
            ]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{path}: what it says of its training is damaged ({error})") from error
    return rows


# ---------------------------------------------------------------- convert, export


def _convert_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "convert",
        "MODEL OUT ",
        "Write any model's weights by timm's names, so that timm loads them with strict=True; prints the call that builds the "
        "network there. What timm cannot express is refused.",
        "minivit convert ViT-B_16.npz vit.safetensors",
        "minivit convert runs/digits-vit_digits-s0 digits.safetensors",
    )
    _model_options(parser)
    parser.add_argument("out", metavar="OUT", help="the safetensors file to write")
    return parser


def _convert(args: argparse.Namespace) -> int:
    from minivit.interop.timm_out import is_plain, timm_call

    model, path = _opened(args), _path(args.checkpoint)
    call = timm_call(model)
    if Path(args.out).exists() and path.exists() and os.path.samefile(path, args.out):
        raise ConfigError(f"{args.out} is the file to be converted; name another one")
    mv.save(model, args.out)
    family = model.source.family if model.source else "minivit"
    print(f"{family} -> timm: {model.num_parameters():,} parameters in {args.out}. To open it there:")
    print("  import functools, safetensors.torch, timm, torch")
    print(f"  model = {call}")
    print(f"  model.load_state_dict(safetensors.torch.load_file({str(args.out)!r}), strict=True)")
    if not is_plain(model):
        _note("with timm's default parts the names would fit but the numbers would not: build it as shown")
    prepare = getattr(model, "preprocess", None)
    if prepare:
        mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (prepare.mean, prepare.std))
        print(f"Images: {_shape(*prepare.size, len(prepare.mean))}, minus {mean}, divided by {std}.")
    return 0


def _export_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "export",
        "MODEL OUT ",
        "Write a model as an ONNX graph, for images (batch, H, W, C), float32 and prepared as in training; any batch size. "
        "Needs the onnx package: pip install -r requirements-onnx.txt.",
        "minivit export runs/digits-vit_digits-s0 digits.onnx",
        "minivit export vit.safetensors vit.onnx --attention",
    )
    _model_options(parser)
    parser.add_argument("out", metavar="OUT", help="the ONNX file to write")
    parser.add_argument("--attention", action="store_true", help="give the attention of each layer besides the logits")
    return parser


def _export(args: argparse.Namespace) -> int:
    from minivit.interop.onnx import export

    model = _opened(args)
    kinds = {str(p.dtype) for p in model.parameters()} - {"float32"}
    if kinds:
        _note(f"the weights are {', '.join(kinds)}; exported as float32")
        model.astype("float32")
    outputs = export(model, args.out, attention=args.attention)
    shape = _shape(*model.image_size, model.config["in_channels"])
    print(f"Written to {args.out}: images (batch, H, W, C), {shape}, float32 -> {_listed(outputs, 4)}")
    prepare = getattr(model, "preprocess", None)
    told = model.meta or (vars(prepare) if prepare else None)
    if told:
        mean, std = (", ".join(f"{v:.4g}" for v in told[key]) for key in ("mean", "std"))
        print(f"Prepare images as in training: pixels in [0, 1], minus {mean}, divided by {std}.")
    return 0


# ---------------------------------------------------------------- data


def _data_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "data",
        "[NAME] ",
        "The data sets; or, given a NAME, what it is, where it comes from, whose it is, and a contact sheet as a PNG.",
        "minivit data",
        "minivit data digits",
        "minivit data folder:my/pictures -o sheet.png",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help=f"{', '.join(mv.data.names())} or folder:PATH")
    parser.add_argument("--data-dir", metavar="DIR", help="where the files of the data set are, if you have them")
    parser.add_argument(
        "--image-size", type=_positive, metavar="PIXELS", help="for folder: side of the images (default: 32)"
    )
    parser.add_argument("-o", "--out", metavar="FILE", help="the contact sheet (default: NAME-contact-sheet.png)")
    return parser


def _data(args: argparse.Namespace) -> int:
    if args.name is None:
        for name in mv.data.names():
            print(f"{name:14} {ABOUT.get(name, '')}")
        print(f"{'folder:PATH':14} your own pictures, one subfolder for each class")
        print("\n`minivit data NAME` says more and draws a contact sheet.")
        return 0
    from minivit import viz

    dataset = mv.data.load(args.name, data_dir=args.data_dir, **_given(args, {"": ("image_size",)}))
    slug = Path(args.name.removeprefix("folder:")).name or "folder"
    out = viz.save(viz.contact_sheet(dataset), args.out or f"{slug}-contact-sheet.png")
    print(dataset.description.rstrip())
    print(f"Images: {', '.join(f'{len(split):,} {part}' for part, split in dataset.parts.items())}")
    print(f"Classes: {', '.join(dataset.class_names)}")
    print(f"Source: {dataset.source}")
    print(f"Licence: {dataset.license}")
    print(f"Contact sheet: {out}")
    return 0


ABOUT = {
    "digits": "1,797 handwritten digits, 8×8 grey; embedded, nothing to download",
    "fashion-mnist": "70,000 pieces of clothing, 28×28 grey",
    "mnist": "70,000 handwritten digits, 28×28 grey",
    "cifar10": "60,000 small photos of 10 kinds, 32×32 RGB",
    "cifar100": "60,000 small photos of 100 kinds, 32×32 RGB",
    "shapes": "figures on textured ground, 24×24 RGB, with exact masks; drawn by the program",
    "twin": "find my twin, 16×16 RGB: a task that needs attention; drawn by the program",
}


# ---------------------------------------------------------------- study


def _study_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        "study",
        "[NAME] ",
        "The findings of the literature; or, given a NAME, that finding measured here: the verdict with its numbers, "
        "result.json and figure.png in DIR/study-NAME. Models are trained once and kept; a second call goes on from there.",
        "minivit study",
        "minivit study cka --quick",
        "minivit study attention-distance --checkpoint vit_b16.npz --images my/pictures",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="one of those that `minivit study` lists")
    parser.add_argument("--data", metavar="NAME", help=f"{', '.join(mv.data.names())} or folder:PATH")
    parser.add_argument("--data-dir", metavar="DIR", help="where the files of the data set are, if you have them")
    parser.add_argument("--seeds", type=_whole, nargs="+", metavar="N", help="of weights and training, such as 0 1 2")
    parser.add_argument("--quick", action="store_true", help="small, within a minute on two cores")
    parser.add_argument("--full", action="store_true", help="as large as the finding needs, hours perhaps")
    words = "look into these weights, or the folder of a run, instead of models trained here"
    parser.add_argument("--checkpoint", nargs="+", metavar="FILE", default=(), help=words)
    parser.add_argument("--images", metavar="DIR", help="a folder of pictures to show them")
    words = "of published weights: what they cannot say (num_heads=6, eps=1e-12)"
    parser.add_argument("--set", action="append", type=_setting, metavar="NAME=VALUE", help=words)
    parser.add_argument("--out", metavar="DIR", default="runs", help="where to keep models and results (default: runs)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _study(args: argparse.Namespace) -> int:
    from minivit import studies
    from minivit.studies import report

    if args.name is None:
        for name, question in studies.STUDIES.items():
            print(f"{name:20} {question}")
        print("\n`minivit study NAME` measures it; with --quick in about a minute.")
        return 0
    module = studies.study(args.name)
    if args.quick and args.full:
        raise ConfigError("study: choose one of --quick and --full")
    _free(Path(args.out), overwrite=True)  # before anything takes time; an older result is replaced
    config = report.Config(
        study=args.name,
        data=args.data,
        seeds=tuple(args.seeds) if args.seeds else None,
        scale="quick" if args.quick else "full" if args.full else "standard",
        checkpoints=tuple(str(_path(name)) for name in args.checkpoint),
        settings=dict(args.set or ()),
        images=args.images,
        folder=args.out,
        data_dir=args.data_dir,
        progress=not args.quiet,
        command=_called(args),
    )
    result = studies.perform(config)
    report.save(result, config.out / "result.json")
    alt = report.draw(module, result, config.out / "figure.png")
    print(f"{result.text}\nfigure   {alt}")
    print(f"Written to {config.out}: result.json, figure.png, after {result.seconds:.0f} s with all training.")
    return 0


def _called(args: argparse.Namespace) -> str:
    """The command that was given, without what changes nothing in its numbers."""
    words = ["minivit", "study", args.name]
    words += ["--data", args.data] if args.data else []
    words += ["--seeds", *map(str, args.seeds)] if args.seeds else []
    words += ["--quick"] * args.quick + ["--full"] * args.full
    words += ["--checkpoint", *args.checkpoint] if args.checkpoint else []
    for name, value in args.set or ():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words + (["--images", args.images] if args.images else []))


# ---------------------------------------------------------------- parsing


class _Parser(argparse.ArgumentParser):
    """A parser of one command whose errors are a `ConfigError`, so that they come out as every other one does."""

    def __init__(self, command: str, arguments: str, description: str, *examples: str):
        super().__init__(
            prog=f"minivit {command}",
            usage=f"minivit {command} {arguments}[OPTION…]",
            description=textwrap.fill(description, 88),
            epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog.removeprefix('minivit ')}: {message}; see `{self.prog} --help`")


def _add_options(parser: Any, table: dict[str, tuple[str, str, str, str]]) -> None:
    types = {"whole": _whole, "number": _number, "text": str}
    for option, (name, kind, metavar, text) in table.items():
        parser.add_argument(option, dest=name, type=types[kind], metavar=metavar, help=text)


def _given(args: argparse.Namespace, table: dict[str, tuple]) -> dict[str, Any]:
    """What the user wrote, by the library's names; nothing that was left out."""
    names = [entry[0] for entry in table.values()]
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _positive(text: str) -> int:
    if _whole(text) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if abs(value) == float("inf") or value != value:
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return value


def _place(text: str) -> tuple[int, int]:
    try:
        row, column = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROW,COL, such as 0,3") from None
    return row, column


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, such as num_heads=6")
    with contextlib.suppress(ValueError):  # anything but a number or a list is a word
        value = json.loads(value)
    return name, tuple(value) if isinstance(value, list) else value


def _one_of(*choices: str) -> Any:
    def check(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not one of {', '.join(choices)}{did_you_mean(text, choices)}"
            )
        return text

    return check


COMMANDS = {
    "train": (_train_parser, _train),
    "eval": (_eval_parser, _eval),
    "predict": (_predict_parser, _predict),
    "look": (_look_parser, _look),
    "info": (_info_parser, _info),
    "convert": (_convert_parser, _convert),
    "export": (_export_parser, _export),
    "data": (_data_parser, _data),
    "study": (_study_parser, _study),
}

if __name__ == "__main__":
    sys.exit(main())

"""The command line: every command, what it writes, and one clear line for everything that can be wrong."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minivit as mv
from minivit.__main__ import COMMANDS, OPTIONS, SIZES, main
from minivit.interop import safetensors
from minivit.training.loop import TrainConfig
from minivit.training.recipes import RECIPES, recipe

TINY = ["--dim", "16", "--depth", "1", "--heads", "2", "--epochs", "2", "--quiet"]


def call(capsys, *argv):
    """Exit code, stdout and stderr of one command."""
    capsys.readouterr()
    code = main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys, *argv):
    """The one line that a refused command prints; checks that it is one, and nothing but one."""
    code, _, err = call(capsys, *argv)
    assert code == 2
    assert err.startswith("minivit: ") and err.endswith("\n") and err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a small finished run on the digits."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", *TINY, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    """The folder of a model without attention."""
    folder = tmp_path_factory.mktemp("cli") / "cnn"
    assert main(["train", "--model", "cnn", "--epochs", "1", "--quiet", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Each test in an empty folder of its own, with none of the variables that change what commands do."""
    monkeypatch.chdir(tmp_path)
    for name in ("MINIVIT_DEBUG", "MINIVIT_DATA", "MINIVIT_BACKEND"):
        monkeypatch.delenv(name, raising=False)


# ---------------------------------------------------------------- train


def test_train_writes_a_run(run):
    assert {path.name for path in run.iterdir()} == {
        "checkpoint.safetensors", "metrics.jsonl", "result.json", "learning_curves.png", "predictions.png", "attention.png",
    }  # fmt: skip
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    for key in ("step", "lr", "train_loss", "val_loss", "val_accuracy", "images_per_second", "seconds"):
        assert all(isinstance(line[key], (int, float)) for line in lines)


def test_result_says_what_was_reached_and_how_to_get_it_again(run):
    result = json.loads((run / "result.json").read_text())
    assert 0 <= result["test_accuracy"] <= 1 and 0 <= result["val_accuracy"] <= 1 and result["test_loss"] > 0
    assert result["data"] == "digits" and result["images"] == {"train": 1257, "val": 180, "test": 360}
    assert result["model"] == "ViT" and result["model_config"]["dim"] == 16
    assert result["config"]["epochs"] == 2 and TrainConfig.of(result["config"]).epochs == 2
    assert result["seed"] == 0 and result["seconds"] > 0 and result["steps"] == 40
    assert {"minivit", "python", "numpy"} <= result["versions"].keys()
    assert result["blas"] and {"system", "processor", "cores"} <= result["machine"].keys()
    model = mv.load(run / "checkpoint.safetensors")
    assert result["parameters"] == model.num_parameters()
    assert mv.evaluate(model, mv.data.load("digits").test)[1] == result["test_accuracy"]


@pytest.mark.parametrize("name", ["learning_curves.png", "predictions.png", "attention.png"])
def test_pictures_open_and_carry_their_alt_text(run, name):
    with Image.open(run / name) as picture:
        picture.load()
        assert min(picture.size) > 300
        assert any(c.isdigit() for c in picture.info["Description"])


def test_train_prints_the_test_accuracy_and_what_to_do_next(capsys):
    code, out, err = call(capsys, "train", *TINY, "--epochs", 1, "--out", "a folder")
    accuracy = json.loads(Path("a folder/result.json").read_text())["test_accuracy"]
    assert code == 0 and err == ""
    assert f"Test accuracy {100 * accuracy:.2f} % ({round(360 * accuracy)} of 360 right)" in out
    assert "minivit look 'a folder' digits:0" in out


def test_train_shows_progress_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    code, _, err = call(capsys, "train", "--model", "linear", "--epochs", "1", "--out", "r")
    assert code == 0 and "loss=" in err and "img/s" in err


def test_profile_prints_where_the_time_went(capsys):
    code, out, _ = call(capsys, "train", "--epochs", 1, "--dim", 16, "--depth", 1, "--out", "r", "--quiet", "--profile")
    assert (
        code == 0
        and "gelu              forward" in out
        and "gelu              backward" in out
        and "peak memory" in out
    )


def test_the_default_folder_names_data_model_and_seed(capsys):
    assert call(capsys, "train", "--model", "linear", "--epochs", 1, "--seed", 3, "--quiet")[0] == 0
    assert os.listdir("runs") == ["digits-linear-s3"]
    assert not os.path.exists("runs/digits-linear-s3/attention.png")  # there is no attention to draw


def test_a_finished_run_is_not_destroyed(capsys):
    argv = ["train", "--model", "linear", "--epochs", "1", "--quiet", "--out", "r"]
    assert call(capsys, *argv)[0] == 0
    before = Path("r/result.json").read_text()
    assert "finished run" in refused(capsys, *argv)
    assert Path("r/result.json").read_text() == before
    os.unlink("r/result.json")
    assert "--resume" in refused(capsys, *argv)
    assert call(capsys, *argv, "--overwrite")[0] == 0
    assert os.path.exists("r/result.json")


def test_sizes_and_options_arrive(capsys):
    argv = ["--patch-size", 4, "--dim", 12, "--heads", 3, "--depth", 2, "--mlp-ratio", 1.5, "--pool", "mean"]
    argv += ["--positions", "sincos", "--registers", 2, "--drop-path", 0.1, "--patch-dropout", 0.25]
    argv += ["--epochs", 1, "--batch-size", 200, "--lr", 0.01, "--weight-decay", 0, "--warmup", 0.2, "--clip", 0]
    argv += ["--smoothing", 0.1, "--augment", "affine+erase", "--mixup", 0.2, "--cutmix", 0.3, "--ema", 0.9]
    argv += ["--accumulate", 2, "--patience", 7, "--optimizer", "sgd", "--shards", 1, "--seed", 5]
    argv += ["--dtype", "float64", "--backend", "numpy", "--workers", 1, "--quiet"]
    assert call(capsys, "train", *argv, "--out", "r")[0] == 0
    result = json.loads(Path("r/result.json").read_text())
    for option, (name, *_) in {**SIZES, **OPTIONS}.items():
        asked = argv[argv.index(option) + 1]
        place = result["model_config"] if option in SIZES else result["config"]
        assert place[name] == asked, option
    assert result["dtype"] == "float64" and result["model_config"]["seed"] == 5
    assert call(capsys, "look", "r", "digits:1")[0] == 0  # mean pooling and registers


def test_everything_runs_on_the_path_of_the_gpu(capsys):
    assert call(capsys, "train", *TINY, "--epochs", 1, "--backend", "fake_cupy", "--out", "r")[0] == 0
    result = json.loads(Path("r/result.json").read_text())
    assert result["backend"] == "fake_cupy"
    code, out, _ = call(capsys, "eval", "r", "--backend", "fake_cupy")
    assert code == 0 and f"{100 * result['test_accuracy']:.2f} %" in out
    assert call(capsys, "look", "r", "digits:0")[0] == 0
    assert call(capsys, "eval", "r", "--backend", "numpy")[1] == out


def test_every_training_option_of_the_library_has_its_flag():
    fields = set(TrainConfig.__dataclass_fields__) - {"betas", "momentum"}
    assert {name for name, *_ in OPTIONS.values()} | {"processes"} == fields  # a switch, beside the table


def test_recipes_are_possible():
    for name in (*RECIPES, "unknown"):
        preset, options = recipe(name)
        assert preset in mv.presets
        TrainConfig.of(options)
    assert set(mv.data.names()) <= set(RECIPES)
    model, options = recipe("digits", "cnn")
    assert model == "cnn" and TrainConfig.of(options).lr == 3e-3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to a whole console only")
def test_ctrl_c_saves_and_resume_ends_with_the_same_weights(capsys):
    """Interrupted from outside, as a user would; resumed, it ends as the run that nobody stopped."""
    argv = ["train", "--dim", "16", "--depth", "1", "--heads", "2", "--epochs", "8"]
    command = [sys.executable, "-m", "minivit", *argv, "--out", "stopped"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    deadline = time.monotonic() + 60
    while not (os.path.exists("stopped/metrics.jsonl") and os.path.getsize("stopped/metrics.jsonl")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "minivit train --out stopped --resume" in out and "Traceback" not in err
    assert not os.path.exists("stopped/result.json")
    assert "unfinished" in call(capsys, "info", "stopped")[1]
    assert "epochs" in refused(capsys, "train", "--out", "stopped", "--resume", "--epochs", 13)
    assert call(capsys, "train", "--out", "stopped", "--resume", "--quiet")[0] == 0
    assert call(capsys, *argv, "--out", "whole", "--quiet")[0] == 0
    stopped, whole = (safetensors.read(f"{name}/checkpoint.safetensors")[0] for name in ("stopped", "whole"))
    assert stopped.keys() == whole.keys()
    assert all(np.array_equal(stopped[name], whole[name]) for name in whole)
    lines = [json.loads(line) for line in Path("stopped/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))


def test_resume_with_the_same_options_repeated_is_fine(capsys, run):
    argv = ["train", *TINY, "--data", "digits", "--model", "vit_digits", "--out", run, "--resume", "--dtype", "float32"]
    weights = (run / "checkpoint.safetensors").read_bytes()
    assert call(capsys, *argv)[0] == 0
    assert (run / "checkpoint.safetensors").read_bytes() == weights


def test_a_run_on_your_own_pictures(capsys, rng):
    for label, colour in (("red", 0), ("blue $x", 2)):
        os.makedirs(f"pictures/{label}")
        for i in range(8):
            pixels = rng.integers(0, 100, (20 + i, 24, 3), dtype=np.uint8)
            pixels[..., colour] += 150
            Image.fromarray(pixels).save(f"pictures/{label}/{i}.png")
    argv = ["--data", "folder:pictures", "--image-size", 16, "--patch-size", 8, *TINY]
    assert call(capsys, "train", *argv)[0] == 0
    assert os.listdir("runs") == ["pictures-vit_32-s0"]
    assert call(capsys, "eval", "runs/pictures-vit_32-s0")[0] == 0
    code, out, _ = call(capsys, "predict", "runs/pictures-vit_32-s0", "pictures/red/0.png")
    assert code == 0 and "red (" in out and "16×16 RGB" in out
    assert call(capsys, "data", "folder:pictures")[0] == 0
    assert os.path.exists("pictures-contact-sheet.png")


# ---------------------------------------------------------------- eval, predict, look


def test_eval_agrees_with_the_result(capsys, run):
    result = json.loads((run / "result.json").read_text())
    code, out, err = call(capsys, "eval", run)
    assert code == 0 and err == ""
    assert "digits, test: 360 images" in out
    assert f"accuracy {100 * result['test_accuracy']:.2f} %" in out and f"loss {result['test_loss']:.4f}" in out
    _, out, _ = call(capsys, "eval", run / "checkpoint.safetensors", "--split", "val", "--data", "digits")
    assert f"accuracy {100 * result['val_accuracy']:.2f} %" in out


@pytest.fixture
def pictures(tmp_path):
    """The same digit in files of many kinds."""
    pixels = mv.data.load("digits").test.images[0, ..., 0].repeat(4, axis=0).repeat(4, axis=1)
    grey = Image.fromarray(pixels)
    files = {
        "grey.png": grey,
        "grey.jpg": grey,
        "rgb.png": grey.convert("RGB"),
        "rgb.jpg": grey.convert("RGB"),
        "rgba.png": grey.convert("RGBA"),
        "palette.png": grey.convert("P"),
        "sixteen.png": Image.fromarray(pixels.astype(np.uint16) * 257),
        "wide.png": Image.fromarray(np.pad(pixels, ((0, 0), (20, 20)))),
        "inverted.png": Image.fromarray(255 - pixels),
        "name with spaces.PNG": grey,
    }
    for name, image in files.items():
        image.save(tmp_path / name, quality=100) if name.endswith("jpg") else image.save(tmp_path / name)
    return files


def verify(path):
    with Image.open(path) as picture:
        picture.verify()


def first_answer(line):
    return line.split(": ")[1].split(" (")[0]


def test_predict_reads_every_kind_of_file(capsys, run, pictures):
    names = [name for name in pictures if name != "inverted.png"]
    code, out, err = call(capsys, "predict", run, *names)
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert "8×8 grey" in lines[0] and "0.305" in lines[0]
    assert len(lines) == 1 + len(names)
    assert {first_answer(line) for line in lines[1:]} == {first_answer(lines[1])}
    assert all(line.count("%") == 3 for line in lines[1:])


def test_predict_takes_test_images_by_number(capsys, run):
    code, out, _ = call(capsys, "predict", run, "digits:0")
    dataset = mv.data.load("digits")
    assert code == 0 and out.rstrip().endswith(f"it is {dataset.class_names[dataset.test.labels[0]]}")


def test_predict_warns_of_ink_on_paper_and_inverts(capsys, run, pictures):
    _, upright, _ = call(capsys, "predict", run, "grey.png", "--json")
    code, _, err = call(capsys, "predict", run, "inverted.png")
    assert code == 0 and "inverted.png is mostly bright" in err and "--invert" in err
    code, out, err = call(capsys, "predict", run, "inverted.png", "--invert", "--json")
    assert code == 0 and err == ""
    for one, other in zip(json.loads(upright)[0]["top"], json.loads(out)[0]["top"], strict=True):
        assert one["class"] == other["class"] and one["probability"] == pytest.approx(other["probability"], abs=1e-4)


def test_predict_json(capsys, run, pictures):
    code, out, _ = call(capsys, "predict", run, "grey.png", "digits:3", "--json")
    found = json.loads(out)
    assert code == 0 and [row["image"] for row in found] == ["grey.png", "digits:3"]
    for row in found:
        shares = [answer["probability"] for answer in row["top"]]
        assert len(shares) == 3 and shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1 + 1e-6
        assert all(answer["class"] in "0123456789" for answer in row["top"])


def test_a_model_without_training_data_still_predicts(capsys, pictures):
    mv.save(
        mv.ViT(image_size=16, patch_size=8, in_channels=3, num_classes=4, dim=8, depth=1, num_heads=2), "m.safetensors"
    )
    code, out, err = call(capsys, "predict", "m.safetensors", "rgb.jpg")
    assert code == 0 and "class 0 (25.0 %)" in out and "mean 0.5" in err
    assert "--data" in refused(capsys, "eval", "m.safetensors")
    assert "no training run" in refused_resume(capsys, "m.safetensors")


def refused_resume(capsys, file):
    os.makedirs("copied")
    os.replace(file, "copied/checkpoint.safetensors")
    return refused(capsys, "train", "--out", "copied", "--resume")


@pytest.mark.parametrize(
    "change",
    [
        {"data": "[]"}, {"data": '{"name": 3}'}, {"data": "{"}, {"config": "[]"}, {"config": '{"dim": "wide"}'},
        {"model": "Vit"}, {"training": "3"}, {"training": "{"}, {"training": '{"history": [{}]}'},
        {"data": '{"name": "digits", "class_names": [1], "mean": [0.5], "std": [0.5]}'},
    ],
    ids=str,
)  # fmt: skip
def test_a_checkpoint_with_damaged_words(capsys, run, change):
    tensors, metadata = safetensors.read(run / "checkpoint.safetensors")
    safetensors.write("broken.safetensors", tensors, metadata | change)
    assert "broken.safetensors" in refused(capsys, "info", "broken.safetensors")
    if "training" not in change:
        assert "broken.safetensors" in refused(capsys, "predict", "broken.safetensors", "digits:0")


def test_look_draws_a_picture(capsys, run, pictures):
    code, out, _ = call(capsys, "look", run, "rgb.jpg")
    assert code == 0 and "look-rgb.png" in out
    with Image.open("look-rgb.png") as picture:
        picture.load()
        assert picture.info["Description"] in out
    argv = ["look", run, "digits:2", "--layer", 0, "--head", 1, 0, "--patch", "3,1", "-o", "x/y.png"]
    code, out, _ = call(capsys, *argv)
    assert code == 0 and "row 3, column 1" in out and "1×3 attention maps" in out
    verify("x/y.png")


# ---------------------------------------------------------------- info, data, help


def test_info_about_this_machine(capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    code, out, _ = call(capsys, "info")
    assert code == 0
    for word in (
        "minivit",
        "numpy",
        "python",
        "processor",
        "BLAS",
        "threads",
        "backends",
        "OMP_NUM_THREADS",
        "data: digits",
    ):
        assert word in out


def test_info_about_a_checkpoint(capsys, run):
    code, out, _ = call(capsys, "info", run)
    assert code == 0
    for word in ("ViT", "num_heads", "parameters", "digits", "0, 1, 2", "finished after step 40", "val_accuracy"):
        assert word in out
    mv.save(mv.create("linear"), "bare.safetensors")
    code, out, _ = call(capsys, "info", "bare.safetensors")
    assert code == 0 and "LinearClassifier" in out and "7,850" in out


def test_data_lists_and_describes(capsys):
    code, out, _ = call(capsys, "data")
    assert code == 0
    for name in (*mv.data.names(), "folder:PATH"):
        [line] = [line for line in out.splitlines() if line.startswith(f"{name} ")]
        assert len(line.split()) > 3  # one line that says something
    code, out, _ = call(capsys, "data", "digits")
    assert code == 0
    for word in ("1,257 train", "CC BY 4.0", "writers", "digits-contact-sheet.png"):
        assert word in out
    verify("digits-contact-sheet.png")


def test_help_of_everything(capsys):
    for argv in ([], ["--help"], ["-h"], ["help"]):
        code, out, err = call(capsys, *argv)
        assert code == 0 and err == "" and all(f"minivit {name}" in out for name in COMMANDS)
    for name in COMMANDS:
        code, out, err = call(capsys, name, "--help")
        assert code == 0 and err == "" and "examples:" in out and f"usage: minivit {name}" in out
        assert max(map(len, out.splitlines())) <= 100
    assert call(capsys, "--version")[1] == f"minivit {mv.__version__}\n"


# ---------------------------------------------------------------- what can be wrong

TRAIN = ["train", "--out", "r"]
WRONG = [  # what was typed; what the line must name; what it must say to do
    (["trian"], "'trian'", "'train'"),
    (["--verbose"], "'--verbose'", "train, eval"),
    (["train", "extra"], "'extra'", "--help"),
    (["train", "--epoch", "3"], "'--epoch'", "'--epochs'"),
    (["train", "--learning-rate=1"], "'--learning-rate'", "--help"),
    (["train", "--epochs"], "--epochs", "expected one argument"),
    (["train", "--epochs", "many"], "'many'", "whole number"),
    (["train", "--epochs", "0"], "epochs", "at least 1"),
    (["train", "--batch-size", "-3"], "batch_size", "at least 1"),
    (["train", "--lr", "nan"], "'nan'", "finite number"),
    (["train", "--lr", "-1"], "lr", "negative"),
    (["train", "--lr", "fast"], "'fast'", "not a number"),
    (["train", "--warmup", "3", "--out", "r"], "warmup", "[0, 1]"),
    (["train", "--smoothing", "1"], "smoothing", "below 1"),
    (["train", "--augment", "afine"], "'afine'", "'affine'"),
    (["train", "--optimizer", "adam"], "'adam'", "'adamw'"),
    (["train", "--workers", "0"], "--workers", "at least 1"),
    (["train", "--seed", "1.5"], "'1.5'", "whole number"),
    (["train", "--seed", "-1"], "seed", "negative"),
    (["train", "--data", "digit"], "'digit'", "'digits'"),
    (["train", "--data", "folder:nowhere"], "nowhere", "not a folder"),
    (["train", "--data", "mnist", "--data-dir", "nowhere"], "nowhere", "not a folder"),
    (["train", "--data", "digits", "--image-size", "9"], "image_size", "'digits'"),
    (["train", "--model", "vit_digit"], "'vit_digit'", "'vit_digits'"),
    (["train", "--model", "linear", "--depth", "2"], "'depth'", "LinearClassifier"),
    (["train", "--patch-size", "3"], "3×3", "change image_size or patch_size"),
    (["train", "--model", "vit_base_patch16_224"], "16×16", "change image_size or patch_size"),
    (["train", "--dim", "50"], "dim 50", "num_heads 4"),
    (["train", "--depth", "-1"], "depth", "at least 0"),
    (["train", "--pool", "max"], "'max'", "cls, mean"),
    (["train", "--dim", "100000000", "--heads", "1"], "dim 100000000", "smaller"),
    (["train", "--depth", "1000000000"], "depth 1000000000", "smaller"),
    (["train", "--drop-path", "1.5"], "drop_path", "rate"),
    (["train", "--backend", "cuda"], "'cuda'", "'cupy'"),
    (["train", "--dtype", "float16"], "'float16'", "float32, float64"),
    (["train", "--resume"], "--resume", "--out"),
    (["train", "--resume", "--out", "nowhere"], "nowhere", "no folder"),
    (["train", "--out", "text.png"], "text.png", "folder"),
    (["train", "--out", "text.png/r", "--model", "linear"], "text.png/r", "written"),
    (["train", "--lr", "1e30", "--clip", "0", "--quiet", *TRAIN[1:]], "loss is", "Lower the learning rate"),
    (["eval"], "MODEL", "required"),
    (["eval", "nowhere"], "nowhere", "does not exist"),
    (["eval", "."], ".", "holds no checkpoint.safetensors"),
    (["eval", "text.png"], "text.png", "neither a safetensors file"),
    (["eval", "cut.safetensors"], "cut.safetensors", "cut short"),
    (["eval", "RUN", "--split", "tset"], "'tset'", "'test'"),
    (["eval", "RUN", "--data", "twin"], "16×16 RGB", "8×8 grey"),
    (["predict", "RUN"], "IMAGE", "required"),
    (["predict", "RUN", "nowhere.png"], "nowhere.png", "No such file"),
    (["predict", "RUN", "text.png"], "text.png", "not an image"),
    (["predict", "RUN", "empty.png"], "empty.png", "empty"),
    (["predict", "RUN", "cut.png"], "cut.png", "cannot read"),
    (["predict", "RUN", "."], ".", "cannot read"),
    (["predict", "RUN", "digits:360"], "digits:360", "0 to 359"),
    (["predict", "RUN", "twin:0"], "16×16 RGB", "8×8 grey"),
    (["look", "RUN"], "IMAGE", "required"),
    (["look", "CNN", "digits:0", "--layer", "0"], "SmallCNN", "no attention"),
    (["look", "RUN", "digits:0", "--layer", "1"], "layer 1", "0 to 0"),
    (["look", "RUN", "digits:0", "--head", "-1"], "head -1", "0 to 1"),
    (["look", "RUN", "digits:0", "--patch", "4,0"], "(4, 0)", "rows 0 to 3"),
    (["look", "RUN", "digits:0", "--patch", "middle"], "'middle'", "ROW,COL"),
    (["look", "RUN", "digits:0", "-o", "text.png/x.png"], "text.png/x.png", "written"),
    (["look", "RUN", "digits:0", "--layers", "0"], "'--layers'", "'--layer'"),
    (["info", "nowhere"], "nowhere", "does not exist"),
    (["info", "text.png"], "text.png", "neither a safetensors file"),
    (["data", "fashion_mnist"], "'fashion_mnist'", "'fashion-mnist'"),
    (["data", "folder:"], "folder:", "path"),
    (["data", "digits", "twin"], "'twin'", "--help"),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "culprit", "advice"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_what_is_wrong_is_said_in_one_line(capsys, run, cnn, argv, culprit, advice):
    Path("text.png").write_text("hello\n")
    Path("empty.png").touch()
    Path("cut.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes()[:3000])
    Path("cut.png").write_bytes((run / "attention.png").read_bytes()[:3000])
    before = sorted(os.listdir("."))
    line = refused(capsys, *[str({"RUN": run, "CNN": cnn}.get(word, word)) for word in argv])
    assert culprit in line and advice in line
    left = sorted(os.listdir("."))
    assert left == before or "--lr" in argv  # a run that diverges leaves its first checkpoint


CONFLICTS = [
    (["--epochs", "5"], "epochs=2"),
    (["--lr", "1"], "lr=0.003"),
    (["--seed", "1"], "seed=0"),
    (["--dim", "32"], "dim=16"),
    (["--model", "cnn"], "model=ViT"),
    (["--model", "vit_28"], "patch_size=2"),
    (["--data", "twin"], "data=digits"),
    (["--dtype", "float64"], "dtype=float32"),
    (["--overwrite"], "--overwrite"),
]


@pytest.mark.parametrize(("argv", "started"), CONFLICTS, ids=[row[0][0] for row in CONFLICTS])
def test_a_resumed_run_keeps_what_it_was_started_with(capsys, run, argv, started):
    weights = (run / "checkpoint.safetensors").read_bytes()
    assert started in refused(capsys, "train", "--out", run, "--resume", "--quiet", *argv)
    assert (run / "checkpoint.safetensors").read_bytes() == weights


def test_a_run_killed_before_its_first_checkpoint_starts_again(capsys):
    os.makedirs("r")
    code, _, err = call(capsys, "train", "--model", "linear", "--epochs", 1, "--quiet", "--out", "r", "--resume")
    assert code == 0 and "starting from the beginning" in err


def test_misspelt_run_is_suggested(capsys, run):
    os.makedirs("runs/digits-a")
    Path("runs/digits-a/checkpoint.safetensors").write_bytes((run / "checkpoint.safetensors").read_bytes())
    assert "'runs/digits-a'" in refused(capsys, "eval", "runs/digit-a")
    assert "'runs/digits-a'" in refused(capsys, "train", "--resume", "--out", "runs/digit-a")


def test_debug_shows_where(monkeypatch):
    monkeypatch.setenv("MINIVIT_DEBUG", "1")
    with pytest.raises(mv.ConfigError):
        main(["eval", "nowhere"])


def test_memory_and_interrupts_are_one_line(capsys, monkeypatch):
    from minivit import __main__ as cli

    def raising(error):
        return lambda args: (_ for _ in ()).throw(error)

    for error, code, said in (
        (MemoryError("Unable to allocate 4 TiB"), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "secret.png"), 2, "secret.png: Permission denied"),
        (mv.DataError("two\n  lines"), 2, "two lines"),
    ):
        monkeypatch.setitem(cli.COMMANDS, "info", (cli._info_parser, raising(error)))
        found, _, err = call(capsys, "info")
        assert found == code and said in err and err.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "minivit", "data"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 141 and err == b""


def test_output_without_a_terminal_has_no_colour_and_survives_ascii(run):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "minivit", "predict", str(run), "digits:0"],
        capture_output=True,
        env=environment,
        check=True,
    )
    assert b"\x1b" not in done.stdout + done.stderr and done.stdout.isascii() and b"8?8 grey" in done.stdout


def test_no_warning_reaches_the_user(capsys, run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(capsys, "eval", run)[0] == 0

"""Builds build/gradescope.zip, the autograder that a teacher uploads to Gradescope.

    python -m scripts.gradescope --seed 4711                       the whole course
    python -m scripts.gradescope --seed 4711 --only softmax patchify --extra ../my-exercises

The zip holds setup.sh and run_autograder, as https://gradescope-autograders.readthedocs.io/en/latest/specs/ asks, and the
packages minivit and exercises. The seed and the choice of exercises go into it, so keep it to yourself.
"""

import argparse
import zipfile
from pathlib import Path

from exercises import manifest
from exercises.manifest import exercise
from minivit.engine.errors import ConfigError
from minivit.interop.safetensors import replacing

ROOT = Path(__file__).resolve().parent.parent
KEEP = {".py", ".toml", ".npz", ".md", ".sh", ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, required=True, help="the inputs' seed; choose one that nobody knows")
    parser.add_argument("--only", nargs="+", metavar="ID", default=[], help="these exercises only")
    parser.add_argument("--extra", type=Path, metavar="DIR", help="a folder with exercises of your own")
    options = parser.parse_args()
    try:
        if options.extra:
            manifest.add(options.extra)
        for name in options.only:
            exercise(name)  # a name that does not exist is better told now
    except ConfigError as error:
        raise SystemExit(f"gradescope: {error}") from error
    path = build(options.seed, options.only, options.extra)
    print(
        f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.1f} MB. In Gradescope: Configure Autograder, upload it."
    )


def build(seed: int, only: list[str], extra: Path | None) -> Path:
    """Write the zip; the same content gives the same bytes."""
    words = ["--seed", str(seed), *(["--only", *only] if only else []), *(["--extra", "extra"] if extra else [])]
    files = {name: (ROOT / "exercises" / "gradescope" / name).read_bytes() for name in ("setup.sh", "run_autograder")}
    files["options.txt"] = " ".join(words).encode()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        files[name] = (ROOT / name).read_bytes()
    for package in ("minivit", "exercises"):
        for file in sorted((ROOT / package).rglob("*")):
            if file.is_file() and file.suffix in KEEP and not {"__pycache__", "backups"} & set(file.parts):
                files[file.relative_to(ROOT).as_posix()] = file.read_bytes()
    for file in sorted(extra.glob("*")) if extra else ():
        if file.suffix in (".py", ".toml"):
            files[f"extra/{file.name}"] = file.read_bytes()
    path = ROOT / "build" / "gradescope.zip"
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as out, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o755 if name in ("setup.sh", "run_autograder") else 0o644) << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return path


if __name__ == "__main__":
    main()

"""Where a data set's files are: on this machine already, or downloaded once, checked, and kept."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from minivit.engine.errors import DataError


def find_files(
    name: str, wanted: Sequence[str], data_dir: str | os.PathLike | None = None, system_dir: str | None = None
) -> list[Path] | None:
    """The wanted files in the first folder that has them, or None: all must be in one folder.

    The folders, in this order: `data_dir/name`, `data_dir`, then the same two of the environment variable MINIVIT_DATA,
    then `system_dir`. A file may also lie there unpacked, without its `.gz`. Raises DataError when `data_dir` is no
    folder, or a folder has some of the files but not all.
    """
    roots = []
    if data_dir is not None:
        roots.append(Path(data_dir).expanduser())
        if not roots[0].is_dir():
            raise DataError(f"{name}: the data folder {str(data_dir)!r} is not a folder")
    if os.environ.get("MINIVIT_DATA"):
        roots.append(Path(os.environ["MINIVIT_DATA"]).expanduser())
    folders = [folder for root in roots for folder in (root / name, root)]
    if system_dir is not None:
        folders.append(Path(system_dir))
    for folder in folders:
        found = [_present(folder, file) for file in wanted]
        missing = [file for file, path in zip(wanted, found, strict=True) if path is None]
        if not missing:
            return found
        if len(missing) < len(wanted):
            raise DataError(f"{name}: {folder} has some of the files, but lacks {', '.join(missing)}; add them")
    return None


def _present(folder: Path, file: str) -> Path | None:
    return next((folder / n for n in (file, file.removesuffix(".gz")) if (folder / n).is_file()), None)


def download(name: str, file: str, urls: Sequence[str], md5: str, *, advice: str) -> Path:
    """The file from the user's cache, or downloaded into it with a progress bar; its MD5 is checked either way.

    A download goes to a temporary file and is put in place only when its checksum is right; nothing is left behind
    otherwise. The addresses are tried in order. Raises DataError, ending in `advice`, when none serves the file.
    """
    import pooch

    cache = Path(pooch.os_cache("minivit")) / name
    new_folders = [folder for folder in (cache, *cache.parents) if not folder.exists()]
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # the progress bar says enough
    failures = []
    try:
        for url in urls:
            try:
                fetch = pooch.HTTPDownloader(progressbar=True, timeout=30)
                return Path(pooch.retrieve(url, f"md5:{md5}", fname=file, path=cache, downloader=fetch))
            except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
                failures.append(f"{url}: {_reason(error)}")
    finally:
        logger.setLevel(level)
        for folder in new_folders:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    raise DataError(f"{name}: could not download {file} ({'; '.join(failures)}). {advice}")


def _reason(error: Exception) -> str:
    if "hash" in str(error):
        return "the checksum is wrong, so the file was thrown away"
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"the server answered {status}" if status else type(error).__name__


def md5_of(path: Path) -> str:
    """The MD5 checksum in hexadecimal: it identifies published files here, it secures nothing."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

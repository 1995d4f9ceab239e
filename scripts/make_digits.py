"""Write minivit/data/digits.npz, the 1,797 handwritten digits that minivit carries with it.

Needs scikit-learn, which ships the test part (optdigits.tes) of the UCI set "Optical Recognition of Handwritten Digits".
Run from the repository's root: python scripts/make_digits.py
The file order is kept. The SHA-256 below is that of the pixels' bytes followed by the labels' bytes; a test holds it.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

CONTENT_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
TARGET = Path(__file__).resolve().parents[1] / "minivit" / "data" / "digits.npz"


def main() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.uint8)  # (1797, 8, 8): the number of inked pixels, 0…16, of each 4×4 block
    labels = digits.target.astype(np.uint8)
    if images.shape != (1797, 8, 8) or images.max() != 16 or not np.array_equal(images, digits.images):
        raise SystemExit("these are not the expected 1,797 images of 8×8 whole numbers from 0 to 16")
    content = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    if content != CONTENT_SHA256:
        raise SystemExit(f"content has SHA-256 {content}, expected {CONTENT_SHA256}")
    temporary = TARGET.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        np.savez_compressed(file, images=images, labels=labels)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, TARGET)
    file_hash = hashlib.sha256(TARGET.read_bytes()).hexdigest()
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes, file SHA-256 {file_hash}, content SHA-256 {content}")


if __name__ == "__main__":
    main()

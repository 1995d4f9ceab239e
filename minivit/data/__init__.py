"""Data sets and images, in NumPy only.

Reading order: dataset.py (what a set is), splits.py (who goes where, in which order), digit_images.py, twin_task.py and
shape_images.py (sets that need no download), files.py, idx_files.py and cifar_files.py (sets that come as files),
image_files.py and image_folder.py (your own pictures), catalogue.py (sets by name), contact.py (a page of examples).
"""

from minivit.data.catalogue import load, names
from minivit.data.cifar_files import cifar10, cifar100
from minivit.data.contact import contact_sheet
from minivit.data.dataset import Dataset, Split, channel_statistics, standardise, to_float
from minivit.data.digit_images import digits
from minivit.data.idx_files import fashion_mnist, mnist, read_idx
from minivit.data.image_files import read_image, read_pixels, resize_images
from minivit.data.image_folder import folder
from minivit.data.shape_images import shapes
from minivit.data.splits import batches, epoch_order, stratified_order
from minivit.data.twin_task import twin

__all__ = [
    "Dataset",
    "Split",
    "batches",
    "channel_statistics",
    "cifar10",
    "cifar100",
    "contact_sheet",
    "digits",
    "epoch_order",
    "fashion_mnist",
    "folder",
    "load",
    "mnist",
    "names",
    "read_idx",
    "read_image",
    "read_pixels",
    "resize_images",
    "shapes",
    "standardise",
    "stratified_order",
    "to_float",
    "twin",
]

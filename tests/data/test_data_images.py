"""Image files of every kind, kindly and hostile, and folders of them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from minivit import data
from minivit.engine.errors import ConfigError, DataError, DTypeError, ShapeError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 9), dtype=np.uint8)


def png(width, height, rows=b""):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- reading ---------------------------------------------------------------------------------------------------------


def test_an_rgb_png_is_read_exactly(tmp_path):
    path = tmp_path / "with a space and an ü.png"
    Image.fromarray(RGB).save(path)
    image = data.read_image(path)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, RGB.astype(np.float32) / 255)
    np.testing.assert_array_equal(data.read_pixels(str(path)), RGB)


def test_grey_stays_grey_unless_asked(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    np.testing.assert_array_equal(data.read_pixels(tmp_path / "a.png"), GREY[..., None])
    np.testing.assert_array_equal(data.read_pixels(tmp_path / "a.png", channels=3), np.stack([GREY] * 3, axis=-1))


def test_colour_becomes_grey_by_luminance(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    grey = data.read_pixels(tmp_path / "a.png", channels=1)
    assert grey.shape == (6, 9, 1)
    np.testing.assert_allclose(grey[..., 0], RGB @ [0.299, 0.587, 0.114], atol=1)


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "gif", "tiff", "webp", "ppm"])
def test_other_formats(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(path)
    np.testing.assert_allclose(data.read_pixels(path, channels=3), 100, atol=2)


def test_transparent_parts_become_white(tmp_path):
    rgba = np.dstack([RGB, np.full((6, 9), 255, np.uint8)])
    rgba[0, 0, 3], rgba[1, 1] = 0, (0, 0, 0, 51)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    pixels = data.read_pixels(tmp_path / "a.png")
    assert pixels[0, 0].tolist() == [255] * 3 and pixels[1, 1].tolist() == [204] * 3
    np.testing.assert_array_equal(pixels[2:], RGB[2:])

    Image.fromarray(np.dstack([GREY, rgba[..., 3]])).save(tmp_path / "b.png")  # grey with alpha
    pixels = data.read_pixels(tmp_path / "b.png")
    assert pixels.shape == (6, 9, 1) and pixels[0, 0, 0] == 255 and pixels[5, 5, 0] == GREY[5, 5]


def test_palettes_with_and_without_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png")
    assert data.read_pixels(tmp_path / "a.png").tolist() == [[[10, 20, 30], [200, 100, 50]]]
    image.save(tmp_path / "b.png", transparency=b"\x00\xff")  # as bytes, on which Pillow would warn
    assert data.read_pixels(tmp_path / "b.png").tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_sixteen_bits_and_one_bit(tmp_path):
    Image.fromarray(np.array([[0, 257, 32768, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert data.read_pixels(tmp_path / "a.png")[..., 0].tolist() == [[0, 1, 128, 255]]
    Image.fromarray(np.array([[0, 257, 32768, 65535]], np.int32)).save(tmp_path / "b.tiff")
    assert data.read_pixels(tmp_path / "b.tiff")[..., 0].tolist() == [[0, 1, 128, 255]]
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "c.png")
    assert data.read_pixels(tmp_path / "c.png")[..., 0].tolist() == [[255, 0]]


def test_cmyk_and_the_first_frame_of_an_animation(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert data.read_pixels(tmp_path / "a.jpg").min() > 250
    frames = [Image.new("L", (4, 4), level) for level in (50, 200)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    assert (data.read_pixels(tmp_path / "b.gif", channels=1) == 50).all()


def test_the_camera_s_orientation_is_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show this a quarter turn clockwise
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(data.read_pixels(tmp_path / "a.png"), np.rot90(RGB, -1))


def test_size_scales_and_crops_round_the_middle(tmp_path):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 200  # the middle third, all that a square shows
    Image.fromarray(wide).save(tmp_path / "a.png")
    np.testing.assert_array_equal(data.read_pixels(tmp_path / "a.png", size=(10, 10)), 200)
    assert data.read_image(tmp_path / "a.png", size=(4, 6), channels=3).shape == (4, 6, 3)
    np.testing.assert_array_equal(data.read_pixels(tmp_path / "a.png", size=(10, 30))[..., 0], wide)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp", "bmp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_image_is_an_error_not_half_a_picture(tmp_path, suffix, kept):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(DataError) as caught:
        data.read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("text.png", b"I am a text, whatever my name says.", "is not an image of a known kind"),
        ("empty.png", b"", "is empty"),
        ("head.png", b"\x89PNG\r\n\x1a\n", "head.png"),
        ("program.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image of a known kind"),
        ("vector.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is not an image of a known kind"),
        ("bomb.png", png(30000, 30000), "has more than 89,478,485 pixels"),
        ("large.png", png(10000, 10000), "has more than 89,478,485 pixels"),
        ("none.png", png(0, 5), "none.png"),
        ("missing-rows.png", png(5, 5, b"\0\1\2"), "missing-rows.png"),
    ],
)
def test_what_is_no_proper_image_is_refused_in_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        data.read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_folders_and_odd_pixels(tmp_path):
    with pytest.raises(DataError, match="cannot read .*gone.png: No such file"):
        data.read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot read"):
        data.read_image(tmp_path)
    with pytest.raises(DataError, match="cannot read"):
        data.read_image("a\0b.png")
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(DataError, match="floating-point"):
        data.read_image(tmp_path / "f.tiff")
    Image.fromarray(np.full((2, 2), 70000, np.int32)).save(tmp_path / "i.tiff")
    with pytest.raises(DataError, match="more than 16 bits"):
        data.read_image(tmp_path / "i.tiff")
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="channels must be 1"):
        data.read_image(tmp_path / "a.png", channels=4)
    with pytest.raises(ConfigError, match="at least 1×1"):
        data.read_image(tmp_path / "a.png", size=(0, 4))


# --- other sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(6, 9), (12, 18), (3, 3), (7, 5), (1, 1)])
def test_resize_agrees_with_pillow(size):
    images = RNG.integers(0, 256, (2, 6, 9, 3), dtype=np.uint8)
    ours = data.resize_images(images, size)
    theirs = [np.array(Image.fromarray(i).resize(size[::-1], Image.Resampling.BILINEAR)) for i in images]
    assert ours.dtype == np.uint8 and ours.shape == (2, *size, 3)
    assert np.abs(ours.astype(int) - np.stack(theirs)).max() <= 1
    floats = data.resize_images(data.to_float(images), size)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats * 255, ours, atol=0.51)


def test_resize_refuses_other_arrays():
    with pytest.raises(ShapeError, match=r"\(n, H, W, C\)"):
        data.resize_images(GREY, (2, 2))
    with pytest.raises(DTypeError, match="float64"):
        data.resize_images(np.zeros((1, 2, 2, 1)), (2, 2))
    with pytest.raises(ConfigError, match="at least 1×1"):
        data.resize_images(np.zeros((1, 2, 2, 1), np.uint8), (2, 0))


# --- folders ---------------------------------------------------------------------------------------------------------


def fill(root, counts, start=0):
    """Plain images: class number k gets the red value 20·k, image number i the green value start + i."""
    for k, (name, count) in enumerate(sorted(counts.items())):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (10, 8), (20 * k, start + i, 0)).save(root / name / f"{i:03}.png")
    return root


def contents(split):
    return sorted(zip(split.images[:, 0, 0, 0].tolist(), split.images[:, 0, 0, 1].tolist(), strict=True))


def test_a_folder_is_split_by_class_disjointly_and_always_alike(tmp_path):
    root = fill(tmp_path / "pets", {"dog": 20, "cat": 20, "ant": 7, "bee": 5})
    (root / "dog" / "notes.txt").write_text("passed over")
    (root / ".hidden").mkdir()
    dataset = data.load(f"folder:{root}", image_size=6)
    assert dataset.class_names == ("ant", "bee", "cat", "dog") and dataset.name == f"folder:{root}"
    assert dataset.image_size == (6, 6) and dataset.in_channels == 3
    everything = sorted(sum((contents(s) for s in dataset.parts.values()), []))
    assert everything == sorted((20 * k, i) for k, n in enumerate((7, 5, 20, 20)) for i in range(n))
    for split in dataset.parts.values():
        np.testing.assert_array_equal(split.images[:, 3, 3, 0], 20 * split.labels)
        assert set(split.labels.tolist()) == {0, 1, 2, 3}
    assert np.bincount(dataset.test.labels)[2:].tolist() == [3, 3] == np.bincount(dataset.val.labels)[2:].tolist()
    again = data.folder(root, image_size=(6, 6))
    np.testing.assert_array_equal(again.train.images, dataset.train.images)
    assert "52 images of 4 classes" in dataset.description and "stratified" in dataset.description


@pytest.mark.parametrize("n", range(5, 40))
def test_every_part_gets_some_of_every_class(tmp_path, n, monkeypatch):
    root = fill(tmp_path, {"a": 5, "b": n})
    dataset = data.folder(root, image_size=2)
    for split in dataset.parts.values():
        assert set(split.labels.tolist()) == {0, 1}


def test_given_parts_are_used(tmp_path):
    fill(tmp_path / "train", {"a": 6, "b": 6})
    fill(tmp_path / "val", {"a": 1, "b": 2}, start=100)
    fill(tmp_path / "test", {"a": 2, "b": 1}, start=200)
    dataset = data.folder(tmp_path, image_size=4, channels=1)
    assert [len(s) for s in dataset.parts.values()] == [12, 3, 3] and dataset.in_channels == 1
    assert "as in the folders" in dataset.description


def test_a_missing_part_is_cut_from_train(tmp_path):
    fill(tmp_path / "train", {"a": 20, "b": 20})
    fill(tmp_path / "test", {"a": 2, "b": 1}, start=200)
    dataset = data.folder(tmp_path, image_size=4)
    assert [len(s) for s in dataset.parts.values()] == [34, 6, 3]
    assert contents(dataset.test) == [(0, 200), (0, 201), (20, 200)]
    assert not set(contents(dataset.train)) & set(contents(dataset.val))
    assert "val cut from the rest" in dataset.description


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, {"bus": 5, "train": 5})
    assert data.folder(tmp_path, image_size=4).class_names == ("bus", "train")


def breakages():
    def nothing(root):
        root.mkdir()

    def one_class(root):
        fill(root, {"a": 9})

    def empty_class(root):
        fill(root, {"a": 9, "b": 9})
        (root / "c").mkdir()

    def few(root):
        fill(root, {"a": 9, "b": 4})

    def loose(root):
        fill(root, {"a": 9}).joinpath("x.png").write_bytes((root / "a" / "000.png").read_bytes())

    def corrupt(root):
        fill(root, {"a": 9, "b": 9})
        (root / "b" / "004.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")

    def stranger(root):
        fill(root / "train", {"a": 9, "b": 9})
        fill(root / "tset", {"a": 9, "b": 9})

    def unknown_class(root):
        fill(root / "train", {"a": 9, "b": 9})
        fill(root / "val", {"a": 9, "zebra": 9})

    return [
        (nothing, "has 0 subfolder"),
        (one_class, "has 1 subfolder.*at least two classes"),
        (loose, "at least two classes"),
        (empty_class, "c has no images"),
        (few, "class 'b' in .* has 4 image.*at least 5"),
        (corrupt, "b/004.png"),
        (stranger, "'tset' beside train"),
        (unknown_class, "val has the class 'zebra', which .*train lacks"),
    ]


@pytest.mark.parametrize("make, message", breakages(), ids=lambda x: getattr(x, "__name__", ""))
def test_a_folder_that_cannot_be_a_data_set_says_why(tmp_path, make, message):
    make(tmp_path / "set")
    with pytest.raises(DataError, match=message):
        data.folder(tmp_path / "set", image_size=4)


def test_a_folder_s_arguments(tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        data.load("folder:no/such/folder")
    with pytest.raises(ConfigError, match="image_size"):
        data.folder(tmp_path, image_size=0)
    with pytest.raises(ConfigError, match="channels"):
        data.folder(tmp_path, channels=2)

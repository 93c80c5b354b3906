"""Folders and lists of images: order, EXIF, modes, sizes, damage."""

import warnings

import numpy as np
import pytest
from PIL import Image

import vdpm
from make_video import corners, picture
from vdpm.errors import InputError
from vdpm.video import read_video

SIZE = (48, 64)


def save(path, image: np.ndarray, **arguments):
    Image.fromarray(image).save(path, **arguments)
    return path


def test_a_folder_in_natural_order(tmp_path):
    for number in (10, 9, 2, 1):
        save(tmp_path / f"frame{number}.png", picture(SIZE, 20 * number))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not an image")
    video = read_video(tmp_path, size=64)
    assert video.frames[:, 36, 48, 0].tolist() == [20, 40, 180, 200]
    assert video.timestamps.tolist() == pytest.approx([0, 1 / 24, 2 / 24, 3 / 24])
    assert video.name == tmp_path.name
    assert "images carry no times: taken as 24 a second" in video.notes
    assert read_video(tmp_path, image_fps=2).timestamps.tolist() == [0, 0.5, 1, 1.5]
    assert read_video(tmp_path, max_frames=2).frame_indices.tolist() == [0, 3]


def test_a_result_is_no_video(tmp_path):
    save(tmp_path / "preview.png", picture(SIZE, 20))
    (tmp_path / "reconstruction.json").write_text("{}")
    with pytest.raises(InputError, match="is a result of vdpm already"):
        read_video(tmp_path)


def test_a_list_keeps_its_order(tmp_path):
    paths = [save(tmp_path / f"{name}.png", picture(SIZE, level)) for name, level in (("b", 50), ("a", 150))]
    assert read_video(paths, size=64).frames[:, 36, 48, 0].tolist() == [50, 150]
    assert read_video([str(path) for path in paths], size=64).frames[:, 36, 48, 0].tolist() == [50, 150]
    assert len(read_video(paths[0])) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "photo.jpg", picture(SIZE, 100), exif=exif, quality=95)
    stored = picture(SIZE, 100)
    turned = {
        1: stored,
        2: stored[:, ::-1],
        3: np.rot90(stored, 2),
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).transpose(1, 0, 2),
        8: np.rot90(stored, 1),
    }[orientation]
    video = read_video(path, size=64)
    assert corners(video.frames[0].numpy()) == corners(turned)
    assert video.transform.source_size == turned.shape[:2]


def test_transparency_lies_over_white(tmp_path):
    image = np.dstack((picture(SIZE, 100), np.full(SIZE, 255, np.uint8)))
    image[:24, :32, 3], image[24:, 32:, 3] = 0, 128
    frame = read_video(save(tmp_path / "clear.png", image), size=64).frames[0]
    assert frame[5, 5].tolist() == [255, 255, 255]
    assert frame[5, 60].tolist() == [20, 200, 20]
    assert frame[40, 50].tolist() == [177, 177, 177]


def test_palettes_with_and_without_a_clear_colour(tmp_path):
    image = Image.fromarray(picture(SIZE, 100)).quantize(8)
    image.save(tmp_path / "palette.png")
    assert corners(read_video(tmp_path / "palette.png", size=64).frames[0].numpy()) == ["red", "green", "blue", "grey"]
    image.save(tmp_path / "clear.png", transparency=image.getpixel((5, 5)))
    assert read_video(tmp_path / "clear.png", size=64).frames[0, 5, 5].tolist() == [255, 255, 255]


def test_sixteen_bit_and_grey(tmp_path):
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(48, 0)
    for suffix in ("png", "tif"):
        frame = read_video(save(tmp_path / f"deep.{suffix}", ramp), size=64).frames[0]
        assert frame[0, :, 0].tolist() == (ramp[0] >> 8).tolist()
        assert frame[0, :, 2].tolist() == (ramp[0] >> 8).tolist()
    frame = read_video(save(tmp_path / "grey.jpg", (ramp >> 8).astype(np.uint8), quality=100), size=64).frames[0]
    assert frame[0, :, 1].tolist() == pytest.approx((ramp[0] >> 8).tolist(), abs=3)
    with pytest.raises(InputError, match="floating point"):
        read_video(save(tmp_path / "float.tif", ramp.astype(np.float32)))


def test_a_turn_that_a_png_tells_too_late(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "late.png", picture(SIZE), exif=exif)
    assert read_video(path, size=64).transform.source_size == (64, 48)
    data = path.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    tail = data.index(b"IEND") - 4
    path.write_bytes(data[:start] + data[end:tail] + data[start:end] + data[tail:])
    assert "EXIF turn" in refusal(path)


def test_cmyk(tmp_path):
    Image.fromarray(picture(SIZE, 100)).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert corners(read_video(tmp_path / "print.jpg", size=64).frames[0].numpy())[:3] == ["red", "green", "blue"]


def refusal(source) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            read_video(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_without_images(tmp_path):
    assert "without images" in refusal(tmp_path)
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "inner").mkdir()
    assert "without images" in refusal(tmp_path)
    assert "folder inside a list" in refusal([tmp_path / "inner"])


@pytest.mark.parametrize("address", ["https://example.org/a.mp4", "http://example.org/watch?v=x", "s3://bucket/a.mp4"])
def test_addresses_are_not_fetched(address):
    assert "addresses are not fetched; download the video and give the file" in refusal(address)
    with pytest.raises(InputError, match="addresses are not fetched"):
        vdpm.reconstruct(address)


def test_images_of_different_sizes(tmp_path):
    first, second = save(tmp_path / "1.png", picture(SIZE)), save(tmp_path / "2.png", picture((48, 66)))
    message = refusal(tmp_path)
    assert message == f"{second}: is 66 x 48, but {first.name} is 64 x 48; give images of one size"


def test_a_turned_photo_is_told_as_it_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "1.jpg", picture((48, 64)))
    save(tmp_path / "2.jpg", picture((48, 64)), exif=exif)
    assert f"{tmp_path / '2.jpg'}: is 48 x 64 upright, but 1.jpg is 64 x 48" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.tif", "a.avif"])
def test_an_image_that_moves_is_no_image(tmp_path, name):
    images = [Image.fromarray(picture(SIZE, level)) for level in (0, 100, 200)]
    images[0].save(tmp_path / name, save_all=True, append_images=images[1:])
    for source in (tmp_path, tmp_path / name):
        assert f"{name}: holds 3 pictures; save it as a video" in refusal(source)


def test_the_second_picture_in_a_phones_jpeg_is_let_be(tmp_path):
    images = [Image.fromarray(picture(SIZE, level)) for level in (0, 100)]
    images[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=images[1:])
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.format == "MPO"
    assert corners(read_video(tmp_path, size=64).frames[0].numpy()) == corners(picture(SIZE, 0))


def test_heic_is_told_by_name(tmp_path):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    assert "holds HEIC pictures, which are not read; save them as jpg" in refusal(tmp_path)
    assert "HEIC pictures are not read" in refusal(tmp_path / "IMG_1.HEIC")
    assert "HEIC pictures are not read" in refusal([tmp_path / "IMG_1.HEIC"])


@pytest.mark.parametrize(("bits", "dark"), [(12, True), (13, False), (16, False)])
def test_twelve_bit_in_sixteen_is_told(tmp_path, bits, dark):
    for number in range(2):
        save(tmp_path / f"{number}.png", np.full(SIZE, 1 << (bits - 1 - number), np.uint16) + 1)
    notes = read_video(tmp_path, size=64).notes
    told = [note for note in notes if "16 bit" in note]
    top = (1 << (bits - 1)) + 1
    assert told == ([f"its 16 bit images are dark: no value is above {top} of 65535; scale them up first"] * dark)


def test_a_turned_photo_among_others_has_another_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "1.jpg", picture((48, 64)), exif=exif)
    save(tmp_path / "2.jpg", picture((64, 48)))
    assert len(read_video(tmp_path)) == 2


@pytest.mark.parametrize(
    ("size", "said"), [((16000, 16000), "256 million"), ((11000, 9000), "99 million"), ((8300, 8300), "8300 x 8300")]
)
def test_huge_images_are_refused_by_their_header(tmp_path, size, said):
    path = tmp_path / "huge.pgm"
    path.write_bytes(f"P5 {size[0]} {size[1]} 255 ".encode() + bytes(100))
    assert f"{said}" in refusal(path)
    assert "above the limit of 67 million pixels" in refusal(path)


def test_damaged_images(tmp_path):
    path = save(tmp_path / "cut.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:5000])
    assert "cut.png: a damaged image" in refusal(path)
    (tmp_path / "text.png").write_text("hello")
    assert "text.png: no image" in refusal(tmp_path / "text.png")
    (tmp_path / "bare.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    refusal(tmp_path / "bare.jpg")


def test_two_pictures_of_each_frame_are_refused_and_a_pattern_takes_one_kind(tmp_path):
    for number in (2, 10):
        save(tmp_path / f"frame-{number}.color.jpg", picture(SIZE, 10 * number), quality=95)
        save(tmp_path / f"frame-{number}.depth.png", np.full(SIZE, 1000 * number, np.uint16))
        (tmp_path / f"frame-{number}.pose.txt").write_text("1 0 0 0")
    for source in (tmp_path, tmp_path / "frame*"):
        with pytest.raises(InputError) as caught:
            read_video(source)
        for part in (str(source), "frame-*.color.jpg", "frame-*.depth.png"):
            assert part in str(caught.value)
    video = read_video(str(tmp_path / "*.color.jpg"), size=64)
    assert video.frames[:, 36, 48, 0].tolist() == pytest.approx([20, 100], abs=3)
    assert video.name == tmp_path.name
    with pytest.raises(InputError, match="matches no"):
        read_video(tmp_path / "*.tif")


def test_a_file_named_like_a_pattern_is_that_file(tmp_path):
    save(tmp_path / "a*.png", picture(SIZE, 50))
    save(tmp_path / "ab.png", picture(SIZE, 90))
    assert read_video(tmp_path / "a*.png", size=64).frames[:, 36, 48, 0].tolist() == [50]


def test_other_names_with_few_numbers_in_common_are_one_folder(tmp_path):
    for name in ("photo1.png", "photo2.png", "scan1.png", "title.png"):
        save(tmp_path / name, picture(SIZE, 50))
    assert len(read_video(tmp_path)) == 4

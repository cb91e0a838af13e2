"""Videos that Pillow reads: a folder of frames, and animated images that FFmpeg does not decode (WebP)."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from fsar.video.container import MOST_PIXELS
from fsar.video.kinds import VIDEO_SUFFIXES, is_hidden, one_sequence, visible_images
from fsar.video.paths import VideoError, decoding, readable
from fsar.video.picture import Frame, Turn

_IMAGES = {b"RIFF": "webp", b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}
_UNKNOWN_DURATION = 100  # milliseconds, as browsers show such pictures
_ORIENTATION = 0x0112  # EXIF tag
_TURNS = {
    2: Turn(columns_flipped=True),
    3: Turn(rows_flipped=True, columns_flipped=True),
    4: Turn(rows_flipped=True),
    5: Turn(transposed=True),
    6: Turn(transposed=True, columns_flipped=True),
    7: Turn(transposed=True, rows_flipped=True, columns_flipped=True),
    8: Turn(transposed=True, rows_flipped=True),
}


def frame_files(folder: Path) -> list[Path]:
    """List the images that are a folder's frames, in order.

    Numbers count by value, so that 10 comes after 9 and 0.5 after 0.25.

    Raises:
        VideoError: no such folder, no image in it, or images of several kinds (see `one_sequence`).
    """
    with readable(folder):
        images = visible_images(folder)
        clips = any(
            path.suffix.lower() in VIDEO_SUFFIXES - {".webp"} and not is_hidden(path.name) for path in folder.iterdir()
        )
    if clips:
        raise VideoError(folder, "it is a folder of clips, not of frames; give the clips in it")
    if not images:
        raise VideoError(folder, "the folder holds no frames; expected .jpg or .png files")
    try:
        return _in_order(one_sequence(images))
    except ValueError as error:
        raise VideoError(folder, str(error)) from error


_NUMBER, _DECIMAL = "([0-9]+)", r"([0-9]+(?:\.[0-9]+)?)"


def _in_order(paths: list[Path]) -> list[Path]:
    """Sort by name. `1.5` is a decimal, unless two names would be equal numbers (1.1 and 1.10)."""
    values = Counter(
        (re.sub(_DECIMAL, "#", path.stem), tuple(float(number) for number in re.findall(_DECIMAL, path.stem)))
        for path in paths
    )
    number = _DECIMAL if max(values.values()) == 1 else _NUMBER
    return sorted(paths, key=lambda path: _natural(path, number))


def _natural(path: Path, number: str = _NUMBER) -> tuple[list[str | tuple[int, str, str]], str]:
    """Sort key: frame 10 comes after frame 9, for any number of digits."""
    parts: list[str | tuple[int, str, str]] = list(re.split(number, path.stem))
    for i in range(1, len(parts), 2):
        whole, _, fraction = str(parts[i]).partition(".")
        parts[i] = len(whole.lstrip("0")), whole.lstrip("0"), fraction
    return parts, path.suffix


def read_still(file: Path) -> Frame:
    """Read an image as it is shown: turned by its EXIF orientation, 16 bits reduced to 8.

    Raises:
        VideoError: it cannot be read.
    """
    with _image(file) as image:
        return _pixels(image)


def still_size(file: Path) -> tuple[int, int]:
    """Return width and height of an image as it is shown."""
    with _image(file) as image:
        return (image.height, image.width) if _turn(image).transposed else (image.width, image.height)


def still_changed(files: Sequence[Path], folder: Path) -> bool:
    """Whether version 0.1 read other frames of a folder: all images, by whole numbers, as stored, clipped to 8 bits."""
    every = sorted(visible_images(folder), key=_natural)
    with _image(files[0]) as image:
        other = _turn(image) != Turn() or image.mode.startswith("I")
    return other or [path.name for path in every] != [path.name for path in files]


@contextmanager
def _image(file: Path) -> Iterator[Image.Image]:
    """Open an image; every error of Pillow becomes a VideoError."""
    try:
        with decoding(file), Image.open(file) as image:
            if image.width * image.height > MOST_PIXELS:
                raise VideoError(file, f"{image.width} x {image.height} pixels; expected at most 8192 x 8192")
            yield image
    except VideoError:
        raise
    except Exception as error:  # plug-ins raise any kind of error on broken files
        raise VideoError(file, f"{error or type(error).__name__}; the file is broken or not an image") from error


def _turn(image: Image.Image) -> Turn:
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1), Turn())
    except Exception:  # a broken tag does not make the picture unreadable
        return Turn()


def _pixels(image: Image.Image) -> Frame:
    if image.mode.startswith("I"):  # 16 bits of grey
        grey = np.clip(np.asarray(image, np.int64), 0, 65535)
        pixels = np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    else:
        pixels = np.asarray(image.convert("RGB"))
    return np.ascontiguousarray(_turn(image)(pixels))


# --------------------------------------------------------------------------- animated images


def image_format(file: Path) -> str | None:
    """Tell whether a file is an image that Pillow reads: `webp`, `png`, `jpeg`, or None."""
    with readable(file), file.open("rb") as handle:
        head = handle.read(12)
    for magic, name in _IMAGES.items():
        if head.startswith(magic) and (name != "webp" or head[8:12] == b"WEBP"):
            return name
    return None


def animation_times(file: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Return start of each picture and, last, the end, in seconds; and width and height of an animated image."""
    with _image(file) as image:
        durations = []
        for frame in ImageSequence.Iterator(image):
            frame.load()  # the duration of a WebP is known only after loading
            durations.append(frame.info.get("duration", 0) or _UNKNOWN_DURATION)
        return np.cumsum([0.0, *durations]) / 1000, (image.width, image.height)


def animation_frames(file: Path) -> Iterator[Frame]:
    """Yield the pictures of an animated image."""
    with _image(file) as image:
        for picture in ImageSequence.Iterator(image):
            yield np.array(picture.convert("RGB"))

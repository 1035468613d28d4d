"""Numbers -> pictures: heat over frames, film strips, PNG files. Plain numpy and PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from foretell.errors import DataError, ShapeError
from foretell.shapes import check_axes

# From "as foreseen" to "very surprising": violet, crimson, orange, pale yellow. Lightness rises all the way, so that
# the order is also read in grey and by the colour-blind; the report draws the same colours.
HEAT_COLOURS = np.array([[74, 16, 121], [170, 32, 110], [229, 68, 64], [252, 150, 40], [253, 240, 150]], np.float32)
# Grey the scene under the heat: a red ball must not look like surprise.
GREY = np.array([0.299, 0.587, 0.114], np.float32)
DIMMED = 0.75
MOST_OPAQUE = 0.9

PAPER, INK, MARK = (250, 250, 248), (40, 40, 44), (214, 58, 47)

# A 5x7 alphabet: a sign, then its five columns, two hex digits each, lowest bit on top.
LETTERS = """
a2054545478 b7f48444438 c3844444428 d384444487f e3854545418 f087e090902 g18a4a4a47c h7f08040478 i00447d4000 j4080847d00
k7f10284400 l00417f4000 m7c04180478 n7c08040478 o3844444438 pfc24242418 q18242418fc r7c08040408 s4854545424 t043f444020
u3c4040207c v1c2040201c w3c4030403c x4428102844 y1ca0a0a07c z4464544c44 03e5149453e 100427f4000 24261514946 32141454b31
41814127f10 52745454539 63c4a494930 70171090503 83649494936 9064949291e .0060600000 -0808080808 +08083e0808 :0036360000
%2313086462 <0814224100
"""
COLUMNS_OF = {entry[0]: bytes.fromhex(entry[1:]) for entry in LETTERS.split()}


def heat_levels(heat: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Heat on the page's scale: 0 at `scale[0]` and below, 1 at `scale[1]` and above; unscored (NaN) is 0."""
    cold, hot = scale
    if not hot > cold:
        raise ShapeError(f"heat scale: expected (cold, hot) with cold below hot, got ({cold}, {hot})")
    return np.clip((np.nan_to_num(heat, nan=cold) - cold) / (hot - cold), 0.0, 1.0).astype(np.float32)


def heat_colours(levels: np.ndarray) -> np.ndarray:
    """Colour of each level in 0..1. levels: (...) -> float (..., 3) in 0..255."""
    position = np.clip(levels, 0.0, 1.0) * (len(HEAT_COLOURS) - 1)
    below = np.minimum(position.astype(int), len(HEAT_COLOURS) - 2)
    share = (position - below)[..., None]
    return HEAT_COLOURS[below] * (1 - share) + HEAT_COLOURS[below + 1] * share


def heat_overlay(frames: np.ndarray, heat: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """The scene in grey with surprise glowing where it sits.

    frames: uint8 (T, H, W, 3); heat: (T, h, w), NaN where not scored; scale: heat shown as cold and as hottest.
    Returns uint8 (T, H, W, 3). Raises ShapeError if the two do not have the same length.
    """
    check_axes(frames, "T H W 3", "heat_overlay frames")
    check_axes(heat, "T h w", "heat_overlay heat")
    if len(frames) != len(heat):
        raise ShapeError(f"heat_overlay: {len(frames)} frames but heat of {len(heat)} steps; give one map a frame")
    painted = np.empty_like(frames)
    for step, (frame, coarse) in enumerate(zip(frames, heat_levels(heat, scale), strict=True)):
        level = upsample(coarse, frame.shape[0], frame.shape[1])
        opacity = MOST_OPAQUE * level[..., None] ** 0.7  # so that a little heat is seen on any ground
        grey = (frame @ GREY)[..., None] * DIMMED
        painted[step] = (grey * (1 - opacity) + heat_colours(level) * opacity + 0.5).astype(np.uint8)
    return painted


def upsample(coarse: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, with the value of a token at its centre. coarse: (h, w) -> (height, width)."""
    (above, below, down), (left, right, across) = (
        _between(n, m) for n, m in zip(coarse.shape, (height, width), strict=True)
    )
    rows = coarse[above] * (1 - down)[:, None] + coarse[below] * down[:, None]
    return rows[:, left] * (1 - across) + rows[:, right] * across


def _between(coarse: int, fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `fine` pixels the two tokens it lies between, and how far along; held at the borders."""
    centre = np.clip((np.arange(fine) + 0.5) * coarse / fine - 0.5, 0, coarse - 1)
    lower = np.floor(centre).astype(int)
    return lower, np.minimum(lower + 1, coarse - 1), (centre - lower).astype(np.float32)


def enlarge(frames: Iterable[np.ndarray], factor: int) -> Iterator[np.ndarray]:
    """Frames `factor` times as large, smooth instead of blocky. Each uint8 (H, W, 3) -> (H * factor, W * factor, 3)."""
    scaler = VideoReformatter()
    for pixels in frames:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        height, width = frame.height * factor, frame.width * factor
        yield scaler.reformat(frame, width, height, interpolation=Interpolation.BICUBIC).to_ndarray()


def film_strip(
    rows: Mapping[str, np.ndarray], marks: Sequence[int] = (), moments: Sequence[str] | None = None
) -> np.ndarray:
    """Rows of frames under each other, one moment a column, named at the left.

    rows: label -> uint8 (T, H, W, 3), all of one shape; marks: columns before which a red line stands (where seeing
    ends and imagining begins); moments: a few letters over each column. Returns uint8 (height, width, 3). Raises
    ShapeError if the rows differ in shape.
    """
    shapes = {label: frames.shape for label, frames in rows.items()}
    if len(set(shapes.values())) != 1:
        raise ShapeError(f"film_strip: expected rows of one shape (T, H, W, 3), got {shapes or 'no row'}")
    for label, frames in rows.items():
        check_axes(frames, "T H W 3", f"film_strip row {label!r}")
    steps, height, width, _ = next(iter(shapes.values()))
    gap, size = max(2, height // 24), max(1, height // 32)
    names = [lettering(label, size) for label in rows]
    indent = max(name.shape[1] for name in names) + 3 * gap
    strip = np.full((len(rows) * (height + gap) + gap, indent + steps * (width + gap), 3), PAPER, np.uint8)
    for row, (name, frames) in enumerate(zip(names, rows.values(), strict=True)):
        top = gap + row * (height + gap)
        middle = top + max(0, (height - name.shape[0]) // 2)
        label_area = strip[middle : middle + name.shape[0], gap : gap + name.shape[1]]
        label_area[name[: label_area.shape[0]]] = INK
        for step, frame in enumerate(frames):
            left = indent + step * (width + gap)
            strip[top : top + height, left : left + width] = frame
    if moments is not None:
        header = np.full((8 * size + 2 * gap, *strip.shape[1:]), PAPER, np.uint8)
        for step, words in enumerate(moments):
            write_words(header[:, indent + step * (width + gap) :][:, :width], words, size)
        strip = np.concatenate([header, strip])
    for mark in marks:
        left = indent + mark * (width + gap) - gap
        strip[:, left : left + gap] = MARK
    return strip


def write_words(area: np.ndarray, words: str, size: int, colour: tuple[int, int, int] = INK) -> None:
    """Write into the middle of a picture, in place; what does not fit is cut off. area: uint8 (H, W, 3)."""
    letters = lettering(words, size)[: area.shape[0], : area.shape[1]]
    top, left = ((room - used) // 2 for room, used in zip(area.shape, letters.shape, strict=False))
    area[top : top + letters.shape[0], left : left + letters.shape[1]][letters] = colour


def lettering(words: str, size: int) -> np.ndarray:
    """Words as a mask (8 * size, ...); capitals are written small, an unknown sign is left as a space."""
    columns = b"\0" + b"".join(COLUMNS_OF.get(letter, b"\0" * 5) + b"\0" for letter in words.lower())
    dots = np.unpackbits(np.frombuffer(columns, np.uint8)[None], axis=0, bitorder="little").astype(bool)
    return dots.repeat(size, axis=0).repeat(size, axis=1)


def png_bytes(image: np.ndarray) -> bytes:
    """One picture as PNG, every pixel kept. image: uint8 (H, W, 3)."""
    return _encode(image, "png", "rgb24", {})


def jpeg_bytes(image: np.ndarray) -> bytes:
    """One picture as JPEG, small. image: uint8 (H, W, 3)."""
    return _encode(image, "mjpeg", "yuvj420p", {"qmin": "4", "qmax": "4"})


def _encode(image: np.ndarray, codec: str, pixels: str, options: dict[str, str]) -> bytes:
    check_axes(image, "H W 3", f"{codec} image")
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.height, encoder.width, encoder.pix_fmt = image.shape[0], image.shape[1], pixels
    encoder.framerate = encoder.time_base = Fraction(1)
    encoder.options = options
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format=pixels)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def write_png(path: Path | str, image: np.ndarray) -> None:
    """Write one picture, whole or not at all. image: uint8 (H, W, 3). Raises DataError if it cannot be written."""
    path = Path(path)
    part = path.with_name(f".{path.stem[:40]}.part")
    try:
        part.write_bytes(png_bytes(image))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(
            f"{path}: cannot write this picture ({error.strerror}); choose a folder that is writable"
        ) from error

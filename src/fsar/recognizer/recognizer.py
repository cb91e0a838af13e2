"""The recogniser: enrol a few example clips per action, then name new videos.

    recognizer = Recognizer("lite0")
    recognizer.enroll("wave", ["wave1.mp4", "wave2.mp4"])
    recognizer.enroll("clap", "clips/clap/")
    print(recognizer.predict("new.mp4"))

The method's variant, the probabilities and the threshold of "unknown" are fitted to the examples
(`fsar.recognizer.calibration`). Any number of threads may ask and edit one recogniser: an edit replaces the whole state
at once, and an answer uses one state from beginning to end.

Each part of the public interface stands in a file of its own: `editing`, `answering`, `long_videos`, `saving`.
"""

from fsar.recognizer.answering import Answering
from fsar.recognizer.editing import Editing
from fsar.recognizer.long_videos import LongVideos
from fsar.recognizer.saving import Saving


class Recognizer(Editing, Answering, LongVideos, Saving):
    """Names the action in a video by comparing it with a few enrolled examples of each action.

    Videos may be paths of files or of folders of frames, arrays of frames (uint8 [frame, height, width, rgb]), the
    bytes of a file, open binary files, or a `Video`, which can be a segment of a file.

    Args:
        backbone: a backbone, or its name for `load_backbone`; `lite0` by default. Its weights must not change later.
        method: a name in `METHODS`, or a method that `load_pretrained` gave. A given method has its own backbone.
        cache: frames on disk; by default 8 frames per clip (or as many as the backbone
            takes), taken from where something moves (`fsar.video.motion`), or
            as a trained method was trained.
        strictness: share of videos of enrolled actions that may be called unknown. The larger it is, the fewer
            strangers are accepted.
        options: options of the method.

    Raises:
        ValueError: an unknown backbone, method or option; a backbone or options beside a given method; or a variant
            that reads labels of queries.

    Example:
        >>> import numpy as np
        >>> def clip(start, end):  # a bright square that moves from one column to another
        ...     frames = np.zeros((8, 64, 64, 3), np.uint8)
        ...     for frame, column in zip(frames, np.linspace(start, end, 8).astype(int)):
        ...         frame[24:40, column : column + 16] = 255
        ...     return frames
        >>> recognizer = Recognizer("tiny")
        >>> recognizer.enroll("right", [clip(0, 48), clip(0, 40)])
        >>> recognizer.enroll("left", [clip(48, 0), clip(40, 0)])
        >>> recognizer.predict(clip(4, 44)).best
        'right'
    """

"""A part of a video in which an action happens: what spotting finds, and what annotations say."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A part of a video in which an action happens.

    Example:
        >>> print(Segment("street.mp4", 62.5, 64.0, "wave", 0.9))
        street.mp4 1:02.5 to 1:04.0: wave 90%
        >>> Segment("a.mp4", 0.0, 2.0, "wave").iou(Segment("a.mp4", 1.0, 3.0, "wave"))
        0.3333333333333333
    """

    video: str
    """Path or name of the video."""
    start: float
    """Seconds."""
    end: float
    """Seconds."""
    action: str
    probability: float = 1.0
    """How sure the recogniser is; 1 for an annotation."""

    def iou(self, other: "Segment") -> float:
        """Temporal intersection over union; 0 in another video."""
        if self.video != other.video:
            return 0.0
        shared = min(self.end, other.end) - max(self.start, other.start)
        return max(0.0, shared) / (max(self.end, other.end) - min(self.start, other.start)) if shared > 0 else 0.0

    def __str__(self) -> str:
        return f"{self.video} {clock(self.start)} to {clock(self.end)}: {self.action} {self.probability:.0%}"


def clock(seconds: float) -> str:
    """Write a time for people, to a tenth of a second.

    Example:
        >>> clock(3723.04), clock(5.25)
        ('1:02:03.0', '0:05.2')
    """
    minutes, rest = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    seconds_part = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{seconds_part}" if hours else f"{minutes}:{seconds_part}"

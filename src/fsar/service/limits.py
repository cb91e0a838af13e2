"""The limits of the service, and the error of a request that it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What the service accepts; everything beyond is refused with a message."""

    upload_mb: float = 100.0
    """Size of an uploaded video."""
    upload_seconds: float = 120.0
    """Time for an upload."""
    video_seconds: float = 300.0
    """Length of a video."""
    pixels: int = 4096 * 2304
    """Pixels of a picture."""
    frames: int = 30_000
    """Pictures of a video."""
    decode_seconds: float = 60.0
    """Time for decoding one video; then the decoding process is killed."""
    decode_mb: int = 2048
    """Memory of a decoding process."""
    wait_seconds: float = 120.0
    """Time that a request may wait for its turn."""
    places: int = 32
    """Requests that upload, wait or run at once."""
    task_seconds: float = 900.0
    """Time for a long task; then it is stopped."""
    tasks: int = 8
    """Long tasks that wait or run at once."""
    lives: int = 8
    """Cameras that are watched at once."""
    recognizers: int = 100
    """Recognisers in the folder."""
    clips: int = 2000
    """Examples of one recogniser."""
    disk_gb: float = 20.0
    """Size of the folder with all recognisers and clips."""


class Refused(Exception):
    """A request that is not served.

    Args:
        status: of HTTP.
        message: what came, what was expected, the fix.
        headers: for the response.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})

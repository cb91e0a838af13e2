"""Compare two sequences of frames: similarities of frames, distances of videos."""

from fsar.alignment.bi_mhm import bi_mhm
from fsar.alignment.cosine import cosine, frame_similarity, seen_similarities, video_text_similarity
from fsar.alignment.otam import otam, otam_alignment

__all__ = [
    "bi_mhm",
    "cosine",
    "frame_similarity",
    "otam",
    "otam_alignment",
    "seen_similarities",
    "video_text_similarity",
]

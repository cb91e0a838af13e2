"""Pictures of what a method looks at: attention, alignment, Grad-CAM, maps of videos, curves, costs.

Every picture is a `Picture`: a matplotlib figure with its alternative text and the numbers that it shows.
`save_picture` writes it as PNG or SVG, and the numbers beside it. matplotlib draws all of them, since most hold frames,
and one way of drawing gives them one look. The report's own charts (`fsar.report.charts`) follow the page's style.
"""

from fsar.explain.picture import Picture, save_picture

__all__ = ["Picture", "save_picture"]

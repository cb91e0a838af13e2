"""Pictures of what a method looks at: attention, alignment, Grad-CAM, maps of videos, curves, costs.

Every picture is a `Picture`: a matplotlib figure with its alternative text and the numbers that it shows.
`save_picture` writes it as PNG or SVG, and the numbers beside it. matplotlib draws all of them, since most hold frames,
and one way of drawing gives them one look. The report's own charts (`fsar.report.charts`) follow the page's style.

| figure of a paper | command (RUN: a trained run; EPISODE: `--data DATA --way 5 --shot 1 --episode 0`) |
|---|---|
| MA-FSAR Fig. 1b, 5 | `fsar explain attention VIDEO --checkpoint FINETUNED AIM MA --text "WORDS" --out A.png` |
| MA-FSAR Fig. 1c | `fsar evaluate --checkpoint RUN ... --out R; fsar explain curves R --x parameters --out A.png` |
| MA-FSAR Table 8 | `fsar benchmark methods --method ma-fsar:fgma=false --trains own,visual` |
| MA-FSAR Tables 8, 15 | `fsar benchmark methods --method otam hyrsm clip-fsar ma-fsar --backbone ViT-B-32/random` |
| Parameters of MA-FSAR Tables 4, 8, 15, Task-Adapter++ Table 8 | `fsar benchmark parameters` |
| MA-FSAR Table 13 | `fsar evaluate --checkpoint RUN --sweep alpha=0:1:0.1 --out R; fsar explain curves R --x alpha` |
| Task-Adapter++ Fig. 11 | `fsar explain attention EPISODE --checkpoint RUN --out A.png` |
| Task-Adapter++, scores of stages | `fsar explain alignment EPISODE --checkpoint RUN --out A.png` |
| CLIP-MDMF Fig. 4 | `fsar train --config clip-mdmf/world --sweep options.distill_weight=0,1 --out T;` |
| | `fsar evaluate --checkpoint T --data DATA --out R; fsar explain curves R --x distill_weight --out A.png` |
| CLIP-MDMF Fig. 5, 6 | `fsar explain map --data DATA --checkpoint RUN --classes ... --out A.png` |
| CLIP-MDMF Fig. 7 | `fsar evaluate --predictions ...; fsar explain classes RUN_A RUN_B --out A.png` |
| CLIP-MDMF Fig. 8 to 11, CLIP-SPM Fig. 7 | `fsar explain gradcam EPISODE --checkpoint RUN --of-truth --out A.png` |
| CLIP-SPM Fig. 5 | `fsar train --config clip-spm/world --sweep options.templates=clip-spm:4,clip-spm:16 --out T;` |
| | `fsar evaluate --checkpoint T --data DATA --out R; fsar explain curves R --x templates --out A.png` |
| CLIP-SPM Fig. 6 | `fsar explain map --projection umap --per-class 40 --checkpoint RUN --data DATA --out A.png` |

`scripts/gallery.py` makes them on the generated world.
"""

from fsar.explain.answers import explanation_picture
from fsar.explain.picture import Picture, save_picture

__all__ = ["Picture", "explanation_picture", "save_picture"]

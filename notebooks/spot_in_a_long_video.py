# %% [markdown]
# # When does it happen?
# A recogniser of short clips finds its actions in a long video: it answers windows as long as its examples, and chooses
# segments that do not overlap.

# %%
from pathlib import Path

from fsar import Recognizer
from fsar.recognizer.timeline import Rule, spot

CLIPS, LONG = Path("my_actions"), Path("long.mp4")
BACKBONE = "lite0"

# %%
recognizer = Recognizer(BACKBONE)
recognizer.enroll_folder(CLIPS)
print(recognizer.contract())

# %% [markdown]
# All windows are answered once; other rules choose segments again, at no cost. A lower `begin` finds more segments, and
# more wrong ones.

# %%
scores = recognizer.scan(LONG)
for begin in (Rule().begin, 0.1):
    found = spot(scores, Rule(begin=begin, keep=begin))
    print(f"begin {begin:g}: {len(found)} segments")
    for segment in found:
        print(f"  {segment}")

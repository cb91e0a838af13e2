# %% [markdown]
# # A recogniser from your own clips
# Put some clips of each action into a folder: `my_actions/ACTION/clip.mp4`. Two of each are enough to begin.

# %%
from pathlib import Path

from fsar import Recognizer

CLIPS = Path("my_actions")
BACKBONE = "lite0"

# %% [markdown]
# Enrol all clips but the last one of each action. Nothing is trained: the recogniser compares.

# %%
clips = {folder.name: sorted(folder.iterdir()) for folder in sorted(CLIPS.iterdir()) if folder.is_dir()}
recognizer = Recognizer(BACKBONE)
for action, paths in clips.items():
    recognizer.enroll(action, paths[:-1])
print(recognizer.fit())

# %% [markdown]
# Name the clips that were kept back. `unknown` is the probability that a clip shows none of the actions.

# %%
right = 0
for action, paths in clips.items():
    answer = recognizer.predict(paths[-1], nearest=1)
    right += answer.action == action
    shares = ", ".join(f"{name} {share:.0%}" for name, share in answer.probabilities.items())
    print(f"{action}: {answer.action} ({shares}); most similar: {answer.nearest[0].video}")
print(f"{right} of {len(clips)} right")

# %% [markdown]
# Correct a wrong answer by enrolling the clip, and keep the recogniser in one file.

# %%
recognizer.save("mine.fsar")
print(Recognizer.load("mine.fsar").actions)

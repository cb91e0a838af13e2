# %% [markdown]
# # Which of two methods names your actions better?
# Both methods answer the same episodes: tasks of a few actions with a few examples each, drawn from your clips. So the
# difference can be told with its interval.

# %%
from fsar import build_method, evaluate, load_backbone
from fsar.datasets import load_dataset
from fsar.results import compare

CLIPS = "my_actions/"
BACKBONE, WAY, EPISODES = "lite0", 2, 1000

# %% [markdown]
# Each clip is encoded once; the second evaluation takes the encodings from the cache if it can.

# %%
videos = load_dataset(CLIPS)
backbone = load_backbone(BACKBONE)
first, second = (
    evaluate(build_method(name, backbone), videos, "all", way=WAY, episodes=EPISODES)
    for name in ("place-motion", "otam")
)
print(f"place-motion {first.percent}, otam {second.percent}")

# %% [markdown]
# The difference over the same episodes, and whether it is more than chance.

# %%
difference = compare([first], [second])
print(f"{difference.difference:+.3f} ± {difference.ci95:.3f} over {difference.covers}: {difference.verdict}")
for action, share in first.per_class.items():
    print(f"{action}: place-motion {share:.0%}, otam {second.per_class[action]:.0%}")

"""Recipes: everything a training run depends on, in one YAML file; one per (method, benchmark).

`load_recipe("ma-fsar/world")` reads the packaged `ma-fsar/world.yaml`, and `load_recipe("mine.yaml")` a file of yours;
`key=value` overrides may follow. The paper's settings come first in every file, or the public code's if the method
is written from that. What they leave open is marked `ours`, with the reason.
"""

from fsar.training.recipes.reading import HARDWARE, load_recipe, parse_recipe, recipe_names, recipe_text
from fsar.training.recipes.recipe import Recipe

__all__ = ["HARDWARE", "Recipe", "load_recipe", "parse_recipe", "recipe_names", "recipe_text"]

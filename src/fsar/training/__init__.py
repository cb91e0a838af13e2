"""Episodic training: recipes, the loop, and checkpoints of what was trained."""

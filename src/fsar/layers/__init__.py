"""Layers that methods share: bottleneck adapters in frozen encoders, and temporal transformers."""

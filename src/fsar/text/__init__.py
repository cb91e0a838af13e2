"""Class names -> texts -> text features: templates, sub-action sentences, and models that write them."""

from fsar.text.words import class_text

__all__ = ["class_text"]

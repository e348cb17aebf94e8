"""Localisation with predicted classes: the boxes of a net at all windows of an image, merged, one per class."""

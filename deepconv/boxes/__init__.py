"""Boxes: geometry, codes, anchors, suppression, merging, and how detections and localisations are scored.

A box is x1, y1, x2, y2 in pixels, float32 [..., 4]. The right and bottom are exclusive: x2 - x1 is the width. Boxes of
an image are padded to a fixed number; padding has class -1 and score -inf.
"""

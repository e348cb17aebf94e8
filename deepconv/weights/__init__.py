"""Weights in and out, with the names and the images of torchvision and timm."""

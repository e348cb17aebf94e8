"""Import and export of weights, with the layer names and images of torchvision and timm."""

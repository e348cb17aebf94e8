"""AlexNet, VGG and ResNet as the papers say."""

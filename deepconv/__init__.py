"""AlexNet, VGG and ResNet as in the papers."""

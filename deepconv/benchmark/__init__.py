"""Speed of training, input and tests on this machine."""

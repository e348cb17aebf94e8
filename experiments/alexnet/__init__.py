"""The runs of Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012.

The text leaves open the epochs of the drops, which were made by hand, and the training on all of ImageNet. Both are
taken from the logs of the code that the authors released in 2025.
"""

from experiments.entry import Run

TEXT = Run("alexnet")  # the net of the text, on ILSVRC-2012
CODE = Run("alexnet_code")  # the net of the authors' code

# ILSVRC-2010, whose test set has labels: DIR/ilsvrc2010/{train,test}/<class>/. Run 145-2010 of the authors' code.
ON_2010 = {"data.name": "ilsvrc2010", "data.eval_split": "test"}
SCHEDULE_2010 = {"total_epochs": 93, "optimizer.drop_at_epochs": (23, 51, 78)}
TEXT_2010 = Run("alexnet", ON_2010 | SCHEDULE_2010)
OF_CODE_2010 = {
    "optimizer.layers.conv1.drop_at_epochs": (23, 51, 68),
    "data.lighting_until_epochs": 68.0,
    "optimizer.bias.learning_rate": 0.002,
}
CODE_2010 = Run("alexnet_code", ON_2010 | SCHEDULE_2010 | OF_CODE_2010)

FIVE = [TEXT, *(Run("alexnet", {"seed": seed}) for seed in (1, 2, 3, 4))]

# Nets with a sixth convolution, trained on all of ImageNet first (Table 2, *)
CONVOLUTIONS = tuple(f"conv{number}" for number in (1, 2, 3, 4, 5))
FALL_2009 = Run("alexnet_fall2009", init_from=CODE, init_layers=CONVOLUTIONS)
FALL_2011 = Run("alexnet_fall2011", init_from=FALL_2009, init_layers=(*CONVOLUTIONS, "conv6"))
FINETUNED = [
    Run("alexnet_finetuned", changes, init_from=FALL_2011, init_layers=(*CONVOLUTIONS, "conv6", "fc6", "fc7"))
    for changes in ({}, {"seed": 1})
]

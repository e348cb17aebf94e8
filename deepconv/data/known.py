"""The data sets of the papers, with their numbers of images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSet:
    """A data set of the papers, with its numbers of images."""

    train: int
    test: int | None  # None: the paper did not test on it
    classes: int
    exact: bool = True  # False: the numbers of images are rounded
    size: tuple[int, int] | None = None  # height and width of every image; None for photographs of many sizes
    train_with_boxes: int | None = None  # training images that have boxes; sources differ by 4 %


DATA = {
    "cifar10": DataSet(50_000, 10_000, 10, size=(32, 32)),
    "imagenet2012": DataSet(1_281_167, 50_000, 1000, train_with_boxes=544_546),
    "ilsvrc2010": DataSet(1_200_000, 150_000, 1000, exact=False),
    "imagenet_fall2009": DataSet(8_900_000, None, 10_184, exact=False),
    "imagenet_fall2009_half": DataSet(4_450_000, 4_450_000, 10_184, exact=False),  # the other half is for testing
    "imagenet_fall2011": DataSet(15_000_000, None, 22_000, exact=False),
}

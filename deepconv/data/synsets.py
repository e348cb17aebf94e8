"""The synsets that name ImageNet's classes, and their English words."""

import functools
from pathlib import Path


@functools.cache
def imagenet_words() -> dict[str, str]:
    """Returns the words of ILSVRC-2012's classes by synset, such as "tench, Tinca tinca" for n01440764.

    The classes are in the order of their numbers. Two pairs of them share their words.
    """
    text = Path(__file__).with_name("synset_words.txt").read_text("utf-8")
    lines = (line.split(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {synset: words for synset, words in lines}


def label(name: str) -> str:
    """Returns "tench (n01440764)" for a synset of ILSVRC-2012, and any other name as it is."""
    words = imagenet_words().get(name)
    return f"{words.partition(',')[0]} ({name})" if words else name

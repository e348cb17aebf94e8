"""Equal blocks, one after the other."""

import flax.linen as nn


def repeat(block: type[nn.Module], times: int) -> type[nn.Module]:
    """`times` equal blocks, one after the other, as a scan."""
    axes = {"params": 0, "batch_stats": 0, "intermediates": 0}
    return nn.scan(block, variable_axes=axes, split_rngs={"params": True}, in_axes=nn.broadcast, length=times)

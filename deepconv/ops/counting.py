"""Counts of a model's parameters and multiply-adds."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr


def count_parameters(params: Any) -> int:
    """Counts learned numbers, including BatchNorm's scales and shifts."""
    return sum(x.size for x in jax.tree.leaves(params))


def count_multiply_adds(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Counts multiply-adds of convolutions and fully connected layers for one image, including those with padding."""

    def forward(images: jax.Array) -> jax.Array:
        return model.init_with_output(jax.random.key(0), images, train=False)[0]

    def count(jaxpr: Jaxpr) -> int:
        total = 0
        for equation in jaxpr.eqns:
            kind, times = equation.primitive.name, equation.params.get("length", 1)  # of a scan
            if kind == "conv_general_dilated":
                kernel, numbers = _shape(equation.invars[1]), equation.params["dimension_numbers"]
                total += math.prod(_shape(equation.outvars[0])) * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
            elif kind == "dot_general":
                left, (contracted, _) = _shape(equation.invars[0]), equation.params["dimension_numbers"][0]
                total += math.prod(_shape(equation.outvars[0])) * math.prod(left[axis] for axis in contracted)
            else:
                parameters = jax.tree.leaves([*equation.params.values()], is_leaf=lambda x: isinstance(x, ClosedJaxpr))
                total += times * sum(count(part.jaxpr) for part in parameters if isinstance(part, ClosedJaxpr))
        return total

    return count(jax.make_jaxpr(forward)(jnp.zeros((1, *image_shape))).jaxpr)


def _shape(array: Any) -> tuple[int, ...]:
    """Returns the shape of an array in a jaxpr; JAX's types do not declare that it has one."""
    return array.aval.shape

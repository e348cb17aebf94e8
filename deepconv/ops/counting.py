"""Counts of a model's parameters and multiply-adds."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr

from deepconv.ops import forms


def count_parameters(params: Any) -> int:
    """Counts learned numbers, including BatchNorm's scales and shifts."""
    return sum(x.size for x in jax.tree.leaves(params))


@dataclass(frozen=True)
class Product:
    """A convolution or matrix product of one image's forward pass; bytes are of its arrays."""

    layer: str  # of the net, such as conv2_1; with the forms blocks:plain
    output_shape: tuple[int, ...]  # without the batch
    multiply_adds: int  # including those with padding
    input_bytes: int
    kernel_bytes: int
    output_bytes: int


def count_multiply_adds(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Counts multiply-adds of convolutions and fully connected layers for one image, including those with padding."""
    return sum(product.multiply_adds for product in products(model, image_shape))


def count(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Counts parameters, and multiply-adds for one image, at once."""
    with forms.using("blocks:scan"):  # the fastest form to trace
        program, variables = _trace(model, image_shape)
    multiply_adds = sum(product.multiply_adds for product in _products(program))
    return count_parameters(variables["params"]), multiply_adds


def products(model: nn.Module, image_shape: tuple[int, int, int]) -> list[Product]:
    """Returns the convolutions and matrix products of the forward pass of one image, in order."""
    return list(_products(_trace(model, image_shape)[0]))


def _trace(model: nn.Module, image_shape: tuple[int, int, int]) -> tuple[Jaxpr, Any]:
    """Returns the program of initialisation and forward pass of one image, and the shapes of the variables."""

    def forward(images: jax.Array) -> Any:
        return model.init_with_output(jax.random.key(0), images, train=False)

    program, (_, variables) = jax.make_jaxpr(forward, return_shape=True)(jnp.zeros((1, *image_shape)))
    return program.jaxpr, variables


def _products(jaxpr: Jaxpr, scope: str = "") -> Iterator[Product]:
    """Yields the products of a program; Flax names the scopes of its operations, such as ResNet/conv2_1/conv1."""
    for equation in jaxpr.eqns:
        inside = f"{scope}/{equation.source_info.name_stack}".strip("/")
        kind = equation.primitive.name
        if kind in ("conv_general_dilated", "dot_general"):
            (left, kernel), (out,) = equation.invars, equation.outvars
            numbers, shape = equation.params["dimension_numbers"], _shape(kernel)
            if kind == "dot_general":
                each = math.prod(_shape(left)[axis] for axis in numbers[0][0])
            else:
                each = math.prod(shape) // shape[numbers.rhs_spec[0]]
            layer, sizes = inside.split("/")[1:2] or [""], (_bytes(left), _bytes(kernel), _bytes(out))
            yield Product(layer[0], _shape(out)[1:], math.prod(_shape(out)) * each, *sizes)
        else:
            parameters = jax.tree.leaves([*equation.params.values()], is_leaf=lambda x: isinstance(x, ClosedJaxpr))
            inner = [
                each for part in parameters if isinstance(part, ClosedJaxpr) for each in _products(part.jaxpr, inside)
            ]
            yield from inner * equation.params.get("length", 1)  # of a scan


def _shape(array: Any) -> tuple[int, ...]:
    """Returns the shape of an array in a jaxpr; JAX's types do not declare that it has one."""
    return array.aval.shape


def _bytes(array: Any) -> int:
    return math.prod(_shape(array)) * array.aval.dtype.itemsize

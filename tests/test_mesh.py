"""Several devices against one, on eight virtual devices in a process of their own."""

import collections
import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def measured():
    command = [sys.executable, str(ROOT / "tests" / "many_devices.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["vgg11", "alexnet_code", "resnet_cifar"])
def test_eight_devices_have_the_losses_of_one(measured, recipe):
    one = measured[recipe].pop("1x1")
    for mesh, losses in measured[recipe].items():
        assert losses == pytest.approx(one, rel=2e-6), mesh
        assert abs(losses[0] - one[0]) <= 2 * np.spacing(np.float32(one[0])), mesh
    assert len({*one}) == len(one)


@pytest.mark.slow
def test_pairs_of_devices_reduce_the_gradients_once(measured):
    """On 2 x 2 devices: gathers and scatters within pairs, one reduction of all gradients between pairs."""
    kinds = collections.Counter((each["axis"], each["kind"]) for each in measured["exchanges"])
    assert kinds.pop(("data", "all-reduce")) == 1
    assert {axis for axis, _ in kinds} == {"model"}
    in_layers = [each for each in measured["exchanges"] if each["layer"].startswith(("conv", "fc", "lrn"))]
    assert len(in_layers) == 8
    assert kinds == {("model", "all-gather"): 4 + 2, ("model", "reduce-scatter"): 4, ("model", "all-reduce"): 3}
    (gradients,) = [each for each in measured["exchanges"] if each["axis"] == "data"]
    half = measured["parameters"] // 2
    assert gradients["received"] == 4 * (half + 2)  # a tower's gradients, and the sums of the loss and the error

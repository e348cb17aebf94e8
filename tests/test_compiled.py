"""What is read from programs compiled for a GPU."""

import importlib.util
import json
import os
import subprocess
import sys

import flax.linen as nn
import jax
import pytest
from conftest import ROOT

from deepconv.benchmark import compiled, hlo
from deepconv.models.layers import Conv, FullyConnected, scores

SNAPSHOT = ROOT / "tests" / "compiled.json"
RUNS = json.loads(SNAPSHOT.read_text())
PROGRAM = """HloModule jit_step, is_scheduled=true

%fused_add (p.0: bf16[4,8], p.1: bf16[4,8]) -> bf16[4,8] {
  %p.0 = bf16[4,8]{1,0} parameter(0)
  %p.1 = bf16[4,8]{1,0} parameter(1)
  ROOT %add.1 = bf16[4,8]{1,0} add(%p.0, %p.1)
}

%body (s: (s32[], f32[100])) -> (s32[], f32[100]) {
  %s = (s32[], f32[100]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %v = f32[100]{0} get-tuple-element(%s), index=1
  %twice = f32[100]{0} fusion(%v, %v), kind=kLoop, calls=%fused_twice, metadata={op_name="jit(step)/while/body/add"}
  ROOT %t = (s32[], f32[100]{0}) tuple(%i, %twice)
}

%condition (s.1: (s32[], f32[100])) -> pred[] {
  %s.1 = (s32[], f32[100]{0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%s.1), index=0
  %three = s32[] constant(3)
  ROOT %less = pred[] fusion(%i.1, %three), kind=kLoop, calls=%fused_less
}

ENTRY %main (x: bf16[4,8], y: f32[100]) -> (bf16[4,8], f32[100]) {
  %x = bf16[4,8]{1,0} parameter(0), metadata={op_name="x"}
  %y = f32[100]{0} parameter(1), metadata={op_name="y"}
  %zero = s32[] constant(0)
  %conv = (bf16[4,8]{1,0}, u8[5000]{0}) custom-call(%x, /*index=1*/%x), custom_call_target="__cudnn$convForward"
  %out = bf16[4,8]{1,0} get-tuple-element(%conv), index=0
  %sum = bf16[4,8]{1,0} fusion(%out, %x), kind=kLoop, calls=%fused_add, metadata={op_name="jit(step)/jvp(Net)/add"}
  %state = (s32[], f32[100]{0}) tuple(%zero, %y)
  %loop = (s32[], f32[100]{0}) while(%state), body=%body, condition=%condition, backend_config=KNOWN
  %last = f32[100]{0} get-tuple-element(%loop), index=1
  ROOT %result = (bf16[4,8]{1,0}, f32[100]{0}) tuple(%sum, %last)
}
"""
PROGRAM = PROGRAM.replace("KNOWN", '{"known_trip_count":{"n":"3"}}')
THUNKS = """000: kCommandBuffer [source] 
    001: kCopy         [source] kCopy
    002: kCustomKernel [prev=001] loop_add_fusion
003: kConvolution   [prev=000] kConvolution
"""


def test_kernels_of_a_program_and_their_bytes():
    """By hand: a map has 4 * 8 * 2 bytes, the vector 400; a loop of 3 also runs its condition, of 4 + 4 + 1 bytes."""
    found = [(kernel.name, kernel.times, kernel.bytes, kernel.operation) for kernel in hlo.kernels(PROGRAM)]
    assert found == [
        ("conv", 1, 2 * 64, ""),  # its input twice, read once; no workspace
        ("sum", 1, 3 * 64, "jvp(Net)/add"),
        ("twice", 3, 3 * 800, "while/body/add"),
        ("less", 3, 3 * 9, ""),
    ]
    assert hlo.launches(THUNKS) == 2


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="how often the loop loop runs"):
        hlo.kernels(PROGRAM.replace("known_trip_count", "unknown"))
    with pytest.raises(ValueError, match="unknown form"):
        hlo.kernels("module @jit_step {}")


class Small(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(Conv(4, 3, padding=1, bias_init=nn.initializers.zeros, dtype="bfloat16", name="conv1")(x))
        return scores(FullyConnected(10, nn.initializers.normal(), dtype="bfloat16", name="fc")(x))


def test_least_bytes_by_hand():
    maps = 6 * 6 * 3 + 6 * 6 * 4 + 6 * 6 * 4 + 10  # inputs and outputs of both layers
    kernels = 3 * 3 * 3 * 4 + 6 * 6 * 4 * 10
    parameters = kernels + 4 + 10
    expected = 3 * 2 * (16 * maps + kernels) + 5 * 4 * parameters  # bfloat16 has two bytes
    assert compiled.least_bytes(Small(), 6, 16) == expected


def test_compiling_for_a_gpu_needs_the_plugin(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[cuda\]'"):
        compiled.prepare()


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_no_step_for_a_gpu_grows_by_3_percent(run, tmp_path):
    """About eight minutes for all runs on two cores."""
    if not importlib.util.find_spec("jax_cuda12_plugin"):
        pytest.skip("jax's CUDA plugin is not installed: pip install -e '.[cuda]'")
    before = RUNS[run]
    if jax.__version__ != before["versions"]["jax"]:
        pytest.skip(f"the snapshot is of jax {before['versions']['jax']}, this is {jax.__version__}")
    recipe, *changes = run.split(",")
    command = [sys.executable, "-m", "deepconv.benchmark", "compiled", f"--config={ROOT}/configs/{recipe}.py"]
    command += [f"--config.{change}" for change in changes]
    command += [f"--target={before['target']}", f"--snapshot={tmp_path}/now.json"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    environment = inherited | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, check=True, timeout=1200)
    now = json.loads((tmp_path / "now.json").read_text())[run]["figures"]
    grown = {name: (value, now[name]) for name, value in before["figures"].items() if now[name] > 1.03 * value}
    assert not grown, f"figure: (snapshot, now) {grown}"

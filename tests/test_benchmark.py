"""Measurements of speed: their arithmetic, their records, and the nets of other libraries."""

import json
import time

import jax
import pytest
from conftest import CONFIGS, answers, tiny_task

from deepconv.benchmark import peaks, step
from deepconv.benchmark.timing import typical
from deepconv.ops import counting

QUICK = f"--config={next(path for path in CONFIGS if path.stem == 'quickstart')}"


def test_typical_is_the_median_of_the_means_of_five_windows():
    assert typical([0, 2, 5, 5, 0, 100, 3, 3, 4, 0]) == 3  # means 1, 5, 50, 3, 2
    assert typical([1, 1, 1, 1, 1, 13]) == 1  # the last window has two calls


def test_shares_are_of_the_data_sheet_or_of_a_product(monkeypatch):
    task, rate = tiny_task(), 1000.0

    class Step:
        def cost_analysis(self):
            return {"bytes accessed": 3.2e6}

    assert "bytes_share" not in (found := step.shares(task, Step(), rate))
    assert 0 < found["flops_share"] == found["flops_per_second"] / found["peak_flops_per_second"]
    assert found["peak_source"].startswith("float32 product")
    kind = jax.devices()[0].device_kind
    monkeypatch.setitem(peaks.SHEETS, kind, peaks.DataSheet(7e12, 2e10, 1e9))
    found = step.shares(task, Step(), rate)
    madds = counting.count_multiply_adds(task.model, (16, 16, 3))
    # conv1; two convolutions of each of three stages, their first with fewer channels; fc
    assert madds == 9 * (256 * 16 * (3 + 2 * 16) + 64 * 32 * (16 + 32) + 16 * 64 * (32 + 64)) + 640
    assert found["flops_per_second"] == 6 * madds * rate and found["flops_share"] == 6 * madds * rate / 2e10
    # two devices, each of which moves 3.2 MB for its half of a batch of 16
    assert found["bytes_per_second"] == pytest.approx(2 * 3.2e6 * rate / 16)
    assert found["bytes_share"] == pytest.approx(3.2e6 * rate / 16 / 1e9)


def test_training_is_recorded(tmp_path):
    given = [
        ([QUICK, "--smoke", "--steps=10", "--json=figures.json"], "start to first step"),
        (["input", QUICK, "--smoke", "--steps=10", "--json=-"], '"measurement": "input"'),
        ([QUICK, "--smoke", "--json=nowhere/x.json"], "there is no folder nowhere"),
    ]
    (code, out, _, named), (input_code, printed, table, _), (wrong, _, err, line) = answers(
        tmp_path, "deepconv.benchmark", given
    )
    assert (code, input_code, wrong) == (0, 0, 2) and named in out and line in err
    record = json.loads((tmp_path / "figures.json").read_text())
    assert record["command"].endswith("--json=figures.json") and record["versions"]["jax"] == jax.__version__
    figures = record["figures"]
    assert figures["batch_size"] == 16 and 0 <= figures["waiting_share"] < 1
    assert 0 < figures["compile_seconds"] < figures["start_to_first_step_seconds"]
    assert min(figures[f"{name}_images_per_second"] for name in ("input", "step", "training")) > 0
    assert "images/s" in table and json.loads(printed)["figures"]["images_per_second"]


def test_a_product_counts_two_operations_for_each_multiply_add(monkeypatch):
    ticks = iter([0.0, 1.0, 2.0, 4.0, 5.0, 5.5, 6.0, 9.0, 9.0, 10.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert peaks.product(8, "float32") == 2 * 8**3  # a median of one second

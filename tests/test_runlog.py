import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from matplotlib.figure import Figure
from PIL import Image

from deepconv import cli, curves, objective
from deepconv.evaluation import probabilities
from deepconv.run import log as runlog
from deepconv.run import preemption
from deepconv.run.directory import lock
from deepconv.run.evaluations import read_eval
from deepconv.run.files import printable, read_json, replacing, write_text
from deepconv.run.starts import record_start


def test_metrics_read_back_merged_by_step_without_a_torn_line(tmp_path):
    for record in ({"step": 1, "a": 1}, {"step": 2, "a": 2}, {"step": 1, "a": 3}, {"step": 2, "test": 4}):
        runlog.append_metrics(tmp_path, record)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "a"')
    assert runlog.read_metrics(tmp_path) == [{"step": 1, "a": 3}, {"step": 2, "a": 2, "test": 4}]


def test_what_follows_a_torn_line_is_kept(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "a"')
    runlog.append_metrics(tmp_path, {"step": 2, "a": 5})
    assert runlog.read_metrics(tmp_path) == [{"step": 2, "a": 5}]


def test_lines_that_are_no_records_are_left_out(tmp_path):
    lines = [
        b"3",
        b"[]",
        b"null",
        b"{}",
        b'{"step": "1"}',
        b'{"step": [1]}',
        b"\xff\x00",
        b"[" * 100_000,
        b'{"step": true}',
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([*lines, b'{"step": 2, "a": 5}', *lines]))
    assert runlog.read_metrics(tmp_path) == [{"step": 2, "a": 5}]


def test_what_is_not_printable_is_escaped_and_letters_of_any_script_are_not():
    assert printable("Käse 犬 ok $x_{") == "Käse 犬 ok $x_{"
    odd = "a\nb\r\x1b[31m\t\x7f\x9b\u2028\u202e" + os.fsdecode(b"\xff")
    assert printable(odd) == r"a\x0ab\x0d\x1b[31m\x09\x7f\x9b\u2028\u202e\udcff"


def test_a_newline_in_a_name_does_not_add_to_the_list_of_replaced_images(tmp_path, capsys):
    for _ in range(2):
        runlog.corrupt_list(tmp_path / "corrupt.txt")(["record 1 (a\nb\x1b.jpg)", "record 2 (é.jpg)"])
    assert (tmp_path / "corrupt.txt").read_bytes() == "record 1 (a\\x0ab\\x1b.jpg)\nrecord 2 (é.jpg)\n".encode()
    assert capsys.readouterr().out.count("\n") == 2


def test_a_line_that_a_crash_left_incomplete_leaves_the_list_of_replaced_images(tmp_path):
    file = tmp_path / "corrupt.txt"
    file.write_bytes("a.jpg: bad\né".encode()[:-1])  # cut inside a letter
    runlog.corrupt_list(file)(["a.jpg: bad", "é.jpg: bad"])
    assert file.read_text("utf-8") == "a.jpg: bad\né.jpg: bad\n"


def test_damaged_json_is_named_with_what_to_do(tmp_path):
    for text in ("", "{", "3", "{}", "\0", "[" * 100_000):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(OSError, match=r"a\.json is damaged: .*; remove it"):
            read_json(tmp_path / "a.json", dict, "step")
    for text in ("[]", "[3]", '[{"time": 1}]'):
        (tmp_path / "environment.json").write_text(text)
        with pytest.raises(OSError, match=r"environment\.json is damaged: .*; restore it"):
            record_start(tmp_path)


def test_lock_refuses_a_second_process_and_dies_with_the_first(tmp_path):
    code = f"""
from pathlib import Path
from deepconv.run.directory import lock
with lock(Path({str(tmp_path)!r})):
    print("held", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BlockingIOError, match=f"process {holder.pid}"), lock(tmp_path):
            pass
        holder.kill()
    with lock(tmp_path):
        pass


def test_a_lock_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "other").write_text("mine")
    (tmp_path / "lock").symlink_to("other")
    with pytest.raises(OSError, match="lock is a symbolic link"), lock(tmp_path):
        pass
    assert (tmp_path / "other").read_text() == "mine"


def test_a_directory_that_was_removed_while_it_was_used_is_noticed(tmp_path):
    with pytest.raises(FileNotFoundError, match="was removed or replaced"), lock(tmp_path / "run"):
        shutil.rmtree(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="was removed or replaced"), lock(tmp_path / "run"):
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "lock").touch()


def test_a_lock_that_alone_was_removed_does_not_fail_what_is_done(tmp_path, capsys):
    with lock(tmp_path / "run"):
        (tmp_path / "run" / "lock").unlink()
    assert "run/lock was removed; another start could have used" in capsys.readouterr().err


def test_a_file_is_replaced_once_it_is_written(tmp_path):
    file = tmp_path / "file"
    write_text(file, "old")
    with pytest.raises(ZeroDivisionError), replacing(file) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert file.read_text() == "old" and [*tmp_path.iterdir()] == [file]
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old" and str(os.getpid()) in temporary.name  # two processes have two files
    assert file.read_text() == "new" and [*tmp_path.iterdir()] == [file]


def test_starts_are_recorded_and_differences_told(tmp_path, monkeypatch):
    assert record_start(tmp_path) == [] and record_start(tmp_path) == []
    monkeypatch.setenv("XLA_FLAGS", "--other")
    (difference,) = record_start(tmp_path)
    assert "xla_flags" in difference and "--other" in difference
    starts = json.loads((tmp_path / "environment.json").read_text())
    assert len(starts) == 3 and starts[0]["devices"] == 2 and starts[0]["versions"]["jax"]


@pytest.fixture(scope="module", autouse=True)
def flags_of_curves():
    curves.define_flags()


def test_curves_are_drawn(tmp_path, capsys):
    tmp_path = tmp_path / "a$x_{$"  # not mathematics
    tmp_path.mkdir()
    for step in range(1, 6):
        runlog.append_metrics(tmp_path, {"step": step, "train_top1_error": 90 / step, "test_top1_error": 80 / step})
    assert curves.main(["curves", str(tmp_path)]) == 0
    picture = np.asarray(Image.open(capsys.readouterr().out.strip()).convert("RGB"))
    assert picture.shape[0] > 300 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    runlog.append_metrics(tmp_path, {"step": 6, "train_top1_error": None})
    assert curves.main(["curves", str(tmp_path)]) == 0
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.jsonl").write_text("rubbish\n")
    assert curves.main(["curves", str(tmp_path / "empty")]) == 2 and "holds no records" in capsys.readouterr().err
    assert curves.main(["curves"]) == 2 and curves.main(["curves", str(tmp_path / "nothing")]) == 2


def test_curves_of_several_runs_share_a_plot(tmp_path, monkeypatch, capsys):
    figures, files = [], []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, dpi: figures.append(figure) or files.append(path))
    for name, depth, errors in (("a$x", 20, (50, 40)), ("b", 56, (90, 80))):
        (tmp_path / name).mkdir()
        config = {"schema": depth, "seed": 1, "model": {"depth": depth, "dtype": "float32"}}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        for step, error in enumerate(errors, 1):
            record = {"step": step, "train_top1_error": error - 10, "test_top1_error": error}
            runlog.append_metrics(tmp_path / name, record)
    runs = [tmp_path / "a$x", tmp_path / "b"]
    monkeypatch.setattr(flags.FLAGS["to"], "value", None)
    monkeypatch.chdir(runs[0])
    for target in ("curves.png", "both.png"):
        assert curves.main(["curves", ".", str(runs[1])]) == 0
        assert capsys.readouterr().out == f"{tmp_path / target}\n" and files[-1] == tmp_path / target
        flags.FLAGS["to"].value = str(tmp_path / "both.png")
    (axes,) = figures[0].axes
    lines = [([*line.get_ydata()], line.get_linestyle(), line.get_color()) for line in axes.lines]
    assert [line[0] for line in lines] == [[40, 30], [50, 40], [80, 70], [90, 80]]
    assert [line[1] for line in lines] == ["--", "-"] * 2 and [line[2] for line in lines] == ["C0", "C0", "C1", "C1"]
    assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 90
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert legend == ["model.depth=20 (last 40.00 %)", "model.depth=56 (last 80.00 %)"]
    (tmp_path / "b" / "config.json").unlink()  # without it, the directory names the run
    assert curves.names(runs) == [str(run) for run in runs]
    for wrong in ("both.jpg", "none/both.png"):
        flags.FLAGS["to"].value = str(tmp_path / wrong)
        assert curves.main(["curves", *map(str, runs)]) == 2 and wrong in capsys.readouterr().err


def test_top_k_error_by_hand():
    probs = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.4, 0.4, 0.2], [0.1, 0.6, 0.3]])
    labels = np.array([0, 1, 1, 0])
    assert probabilities.top_k_error(probs, labels, 1) == 75.0  # the third is a tie, which the lower class wins
    assert probabilities.top_k_error(probs, labels, 2) == 25.0
    assert probabilities.top_k_error(probs, labels, 5) == 0.0
    assert float(objective.top1_error(probs, labels)) == 75.0


def test_cross_entropy_by_hand():
    logits = np.array([[2.0, 0.0], [0.0, 0.0]], np.float32)
    expected = (np.log(1 + np.exp(-2.0)) + np.log(2.0)) / 2
    assert float(objective.cross_entropy(logits, np.array([0, 1]))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("value", ["null", '"9"', "true"])
def test_an_error_that_is_no_number_is_named(value, tmp_path):
    file = tmp_path / "eval.center.json"
    file.write_text(f'{{"top1_error": {value}, "top5_error": 1.0, "examples": 10}}')
    with pytest.raises(OSError, match="eval.center.json is damaged: top1_error is .*, not a number; remove it"):
        read_eval(file)


def test_a_signal_while_memory_is_freed_is_not_printed(monkeypatch, capsys):
    class Freed:
        def __init__(self, error):
            self.error = error

        def __del__(self):
            raise self.error

    monkeypatch.setattr(sys, "unraisablehook", cli._print_unraisable)
    Freed(preemption.Preempted("SIGTERM"))
    assert capsys.readouterr().err == ""
    Freed(ValueError("a mistake"))
    assert "ValueError: a mistake" in capsys.readouterr().err


def test_the_time_left_counts_no_compilation(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(runlog.time, "monotonic", lambda: clock[0])
    with runlog.progress("train", 100, done=10) as show:
        for seconds, done, uncounted in [(0, 10, 0), (500, 11, 0), (503, 12, 0), (1006, 14, 497), (1008, 15, 0)]:
            clock[0] = float(seconds)
            show(done, "text" if done > 10 else "compiling ...", log=True, uncounted=uncounted)
    left = [line.partition("  ")[2] for line in capsys.readouterr().out.splitlines()]
    # from step 11 at 500 s: a step takes 3 s, then 9 s for 3 steps without 497 s of compilation, then 11 s for 4 steps
    expected = ["compiling ...", "text", "text  0:04:24 left", "text  0:04:18 left", "text  0:03:54 left"]
    assert left == expected


def test_the_progress_line_has_what_is_known():
    record = {"step": 3, "epoch": 1.5, "train_loss": 2.0, "train_top1_error": 30.0, "images_per_second": 99.6}
    assert runlog.summary_line(record, 40.0) == "epoch 1.5  loss 2.000  error 30.0 %  test error 40.0 %  100 images/s"
    assert runlog.summary_line({"step": 3, "epoch": 1.5}, 40.0) == "epoch 1.5  test error 40.0 %"
    assert runlog.summary_line({"step": 3, "epoch": 1.5}) == "epoch 1.5"

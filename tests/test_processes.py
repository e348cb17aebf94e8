"""Several processes, as threads over a store that does what JAX's coordinator does; tests/faults starts real ones."""

import os
import queue
import random
import threading
import time

import numpy as np
import pytest

from deepconv import processes
from deepconv.data import decode, pipeline
from deepconv.data.images import Encoded, Record
from deepconv.processes.group import Address, Group


class Store:
    """A key-value store with the calls of JAX's client."""

    def __init__(self):
        self.values, self.changed = {}, threading.Condition()

    def key_value_set(self, key, value):
        with self.changed:
            if key in self.values:
                raise RuntimeError(f"ALREADY_EXISTS: {key}")
            self.values[key] = value
            self.changed.notify_all()

    def key_value_increment(self, key, by):
        with self.changed:
            self.values[key] = self.values.get(key, 0) + by
            return self.values[key]

    def blocking_key_value_get(self, key, milliseconds):
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.values, milliseconds / 1000):
                raise RuntimeError("DEADLINE_EXCEEDED")
            return self.values[key]


def groups(count):
    store = Store()
    return [Group(store, Address("here:1", count, number)) for number in range(count)]


def together(functions):
    """The results of functions that run at the same time."""
    results = [None] * len(functions)

    def call(place):
        results[place] = functions[place]()

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads), "hangs"
    return results


@pytest.mark.parametrize("seed", range(5))
def test_all_stop_at_the_same_check(seed):
    """A step waits for the others' steps, as a collective does, up to two steps later."""
    members, taken, moved = groups(3), [0] * 3, threading.Condition()
    rng = random.Random(seed)
    pauses = [[rng.random() / 500 for _ in range(400)] for _ in members]

    def train(place):
        for step in range(400):
            if members[place].stops(pending=place == 1 and step >= 20):
                return step
            time.sleep(pauses[place][step])
            with moved:
                taken[place] += 1
                moved.notify_all()
                assert moved.wait_for(lambda: min(taken) >= taken[place] - 2, 20), "a collective waits"
        raise AssertionError("does not stop")

    stopped = together([lambda place=place: train(place) for place in range(3)])
    assert len({*stopped}) == 1 and 20 <= stopped[0] < 40


def test_process_0_decides():
    members, asked = groups(3), []

    def decide(place):
        return [members[place].agree(lambda: asked.append(place) or {"step": 7, "evals": ["center"]}) for _ in "ab"]

    assert (
        together([lambda place=place: decide(place) for place in range(3)])
        == [[{"step": 7, "evals": ["center"]}] * 2] * 3
    )
    assert asked == [0, 0]


def test_values_are_collected_in_order():
    members = groups(3)
    collect = [lambda member=member: member.collect(f"host{member.process}") for member in members]
    assert together(collect) == [["host0", "host1", "host2"]] * 3


def test_process_0_receives_what_others_send():
    members, received = groups(3), []
    members[0].receive("replaced", received.append)
    together([lambda: members[1].send("replaced", "a"), lambda: members[2].send("replaced", "b")])
    members[1].send("replaced", "c")
    end = time.monotonic() + 10
    while len(received) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert sorted(received[:2]) == ["a", "b"] and received[2] == "c"


def test_what_process_0_cannot_write_ends_the_run(monkeypatch, capsys):
    ended = queue.Queue()
    monkeypatch.setattr(os, "_exit", ended.put)
    members = groups(2)

    def full(text):
        raise OSError("corrupt.txt: no space left")

    members[0].receive("replaced", full)
    members[1].send("replaced", "a")
    assert [ended.get(timeout=20), ended.get(timeout=20)] == [1, 1]
    assert "deepconv: corrupt.txt: no space left" in capsys.readouterr().err


def test_the_first_that_fails_gives_the_reason():
    store = Store()
    store.key_value_set("deepconv/end", "[2, 1, 'full']")  # by another process; this one must not print
    silent = Group.__new__(Group)
    silent.process, silent._client = 0, store
    assert not silent.ends_first(1, "lost")


def test_processes_that_differ_are_refused(monkeypatch):
    members = groups(2)
    monkeypatch.setattr(processes, "collect", lambda text: members[0].collect(text))
    other = threading.Thread(target=lambda: members[1].collect('{"seed": 1, "name": "a"}'))
    other.start()
    with pytest.raises(ValueError, match="process 0 has seed: 0, and process 1 1; start all"):
        processes.check_same({"seed": 0, "name": "a"})
    other.join()


SLURM = {"SLURM_JOB_ID": "4097", "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}


@pytest.mark.parametrize(
    "nodes, host",
    [("n1,n2", "n1"), ("n[1-2]", "n1"), ("gpu[007-009,12],x1", "gpu007"), ("host-a", "host-a"), ("a[3,5]", "a3")],
)
def test_places_given_by_slurm(monkeypatch, nodes, host):
    for name, value in (SLURM | {"SLURM_STEP_NODELIST": nodes}).items():
        monkeypatch.setenv(name, value)
    assert processes.address("", 0, None) == Address(f"{host}:61441", 4, 3)


def test_places_given_by_flags(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")  # a batch script has it; only srun starts several
    assert processes.address("", 0, None) is None
    assert processes.address("n1:99", 1, 0) is None
    assert processes.address("n1:99", 2, 1) == Address("n1:99", 2, 1)
    for wrong in (("n1", 2, 0), ("n1:99", 0, 0), ("n1:99", 2, None), ("n1:99", 2, 2), ("", 2, 0)):
        with pytest.raises(ValueError, match="give all three"):
            processes.address(*wrong)


class Noise(Encoded):
    def read(self, indices):
        rows = [np.random.default_rng(int(index)).integers(0, 256, (20, 24, 3), np.uint8) for index in indices]
        return [Record(_png(row), int(index), "") for index, row in zip(indices, rows, strict=True)]


def _png(image):
    import cv2

    return cv2.imencode(".png", image)[1].tobytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_shares_of_a_batch_are_its_rows(workers):
    geometry = decode.Geometry((17, 22), 16, square=False, random=True)
    options = dict(batch_size=6, seed=3, geometry=geometry, first_step=2)

    def first(rows, workers=0):
        batch = next(pipeline.train_batches(Noise(), 10, **options, rows=rows, workers=workers))
        return batch["image"], batch["label"]

    images, labels = first(slice(None))
    for rows in (slice(0, 2), slice(2, 6)):
        own_images, own_labels = first(rows, workers)
        np.testing.assert_array_equal(own_images, images[rows])
        np.testing.assert_array_equal(own_labels, labels[rows])

"""The cache of compiled programs, in folders of the tests."""

import os

import jax
import numpy as np
import pytest
from conftest import ROOT, shell, tiny_task
from jax.experimental.compilation_cache import compilation_cache

from deepconv import compilation, train

QUICK = [f"--config={ROOT}/configs/quickstart.py", "--smoke", "--config.total_epochs=1"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of a user, and a JAX without one; keep_programs() finds both."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    forget()
    yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name, value)
    forget()


def forget():
    """The next program opens the cache anew."""
    compilation_cache.reset_cache()
    compilation.keep_programs.cache_clear()


@pytest.mark.slow
def test_results_with_kept_programs_are_the_same_to_the_bit(cache, tmp_path, capsys):
    states, hits = [], []
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("hits") else None)
    for name in ("cold", "warm"):
        forget()
        jax.clear_caches()
        jax.config.update("jax_compilation_cache_dir", None)
        compilation.keep_programs()
        hits.clear()
        state, _ = train.train(tiny_task(total_steps=4), tmp_path / name)
        states.append([np.asarray(leaf) for leaf in jax.tree.leaves(state)])
        assert bool(hits) == (name == "warm")
        assert len([*(cache / "deepconv" / "xla").glob("*/jit_train_step-*")]) == 1
    assert all((a == b).all() for a, b in zip(*states, strict=True))
    assert (cache / "deepconv").stat().st_mode & 0o777 == (cache / "deepconv" / "xla").stat().st_mode & 0o777 == 0o700
    assert not capsys.readouterr().err


@pytest.mark.slow
def test_a_command_keeps_programs_and_says_nothing(tmp_path):
    variables = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    options = dict(without=["JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"], **variables)
    answer = shell().run_fresh([*QUICK, "--workdir=run"], tmp_path, **options).ends(0)
    assert not answer.err and [*(tmp_path / "cache" / "deepconv" / "xla").glob("*/jit_train_step-*")]


def others_can_write(cache):
    (cache / "deepconv" / "xla").mkdir(parents=True)
    (cache / "deepconv" / "xla").chmod(0o777)


def everyone_can_write_above(cache):
    cache.mkdir()
    cache.chmod(0o777)


def a_file_is_in_the_way(cache):
    cache.mkdir()
    (cache / "deepconv").write_text("")


@pytest.mark.parametrize("prepare", [others_can_write, everyone_can_write_above, a_file_is_in_the_way])
def test_a_folder_that_is_not_private_is_refused_in_one_line(cache, capsys, prepare):
    prepare(cache)
    compilation.keep_programs()
    compilation.keep_programs()
    err = capsys.readouterr().err
    assert err.startswith("deepconv: compiled programs are not kept") and str(cache) in err and err.count("\n") == 1
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user_is_refused(cache, capsys):
    (cache / "deepconv").mkdir(parents=True)
    os.chown(cache / "deepconv", 65534, 65534)
    compilation.keep_programs()
    assert "deepconv belongs to another user" in capsys.readouterr().err


def test_jax_own_settings_take_precedence(cache):
    jax.config.update("jax_compilation_cache_dir", str(cache / "own"))
    compilation.keep_programs()
    assert jax.config.jax_compilation_cache_dir == str(cache / "own")
    jax.config.update("jax_compilation_cache_dir", None)
    compilation.keep_programs.cache_clear()
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        compilation.keep_programs()
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert jax.config.jax_compilation_cache_dir is None and not cache.exists()


def test_the_programs_not_used_for_longest_are_removed(tmp_path):
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(("a", "sub/b", "c", "d")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1000 + number, 1000))
    compilation.remove_oldest(tmp_path, 400)
    assert len([file for file in tmp_path.rglob("*") if file.is_file()]) == 4
    compilation.remove_oldest(tmp_path, 250)
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"c", "d"}

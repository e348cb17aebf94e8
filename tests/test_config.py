import contextlib
import json
import re
import sys

import pytest
from conftest import CONFIGS, ROOT

from deepconv import task as task_lib
from deepconv.config import __main__ as config_command
from deepconv.config import durations, fields, recipes, shorten
from deepconv.config.smoke import shrink
from deepconv.run.files import expanded

CIFAR = ROOT / "configs" / "resnet_cifar.py"
CODE = ROOT / "configs" / "alexnet_code.py"


def test_overrides_change_fields_and_win_over_smoke():
    config = recipes.load(CIFAR, {"model.depth": 56, "total_steps": 9, "optimizer.drop_at_steps": (2, 4)}, smoke=True)
    assert (config.model.depth, config.total_steps, config.optimizer.drop_at_steps) == (56, 9, (2, 4))
    assert config.data.name == "shapes"


def test_smoke_keeps_units_and_fits_durations_to_overrides():
    quickstart = ROOT / "configs" / "quickstart.py"
    config = recipes.load(quickstart, {"total_epochs": 2, "eval_every_epochs": 2}, smoke=True)
    assert (config.total_epochs, config.eval_every_epochs, config.optimizer.drop_at_epochs) == (2, 2, (1.25, 1.75))
    config = recipes.load(CIFAR, {"total_steps": 3}, smoke=True)
    assert (config.total_steps, config.optimizer.drop_at_steps) == (3, (2,))
    config = recipes.load(CIFAR, {"model.bn_group": 64}, smoke=True)
    assert (config.model.bn_group, config.batch_size) == (64, 128)
    config = recipes.load(ROOT / "configs" / "vgg16.py", {"data.image_size": 32}, smoke=True)
    assert (config.data.train_scale, config.data.test_scale) == ((36, 36), 36)  # 256 / 224 of 32
    config = recipes.load(ROOT / "configs" / "vgg16_fc.py", smoke=True)
    assert config.optimizer.layers.conv5_3.freeze_at_steps == 0  # what is frozen from the start stays so
    shrunk = [recipes.load(path, smoke=True) for path in CONFIGS]
    shrunk.append(recipes.load(CODE, {"batch_size": 64}, smoke=True))  # so few steps that drops would coincide
    for config in shrunk:
        fields.check_fields(config)
        fields.check_together(config, examples=160, devices=2)


def test_a_config_is_flattened_with_its_types():
    config = {"seed": 3, "optimizer": {"layers": {"conv1": {"drop_at_steps": (4, 5)}}, "momentum": 0.9}}
    fields_by_name = {"seed": 3, "optimizer.layers.conv1.drop_at_steps": (4, 5), "optimizer.momentum": 0.9}
    assert recipes.flatten(recipes.ConfigDict(config).to_dict()) == fields_by_name


def test_shorten_scales_all_durations_and_keeps_the_rest():
    changed = {"total_steps": 640, "eval_every_steps": 64, "optimizer.drop_at_steps": (320, 480)}
    assert recipes.flatten(recipes.load(CIFAR, factor=0.01).to_dict()) == recipes.flatten(
        recipes.load(CIFAR, changed).to_dict()
    )
    assert recipes.load(CIFAR, {"total_steps": 900}, factor=0.01).total_steps == 900  # flags take precedence
    code = recipes.load(CODE, factor=0.01)
    conv1 = code.optimizer.layers.conv1
    assert (code.total_epochs, code.optimizer.drop_at_epochs) == (0.91, (0.25, 0.51, 0.79))
    assert (conv1.drop_at_epochs, conv1.freeze_at_epochs) == ((0.25, 0.51, 0.67), 0.72)
    assert (code.data.lighting_until_epochs, code.eval_every_epochs) == (0.67, 0.091)  # ten tests
    short = recipes.load(CIFAR, factor=0.00022)
    assert (short.total_steps, short.eval_every_steps) == (14, 2)  # seven tests, not fourteen
    frozen = recipes.load(ROOT / "configs" / "vgg16_fc.py", factor=0.01).optimizer.layers.conv5_3
    assert frozen.freeze_at_steps == 0
    assert recipes.run_name(CIFAR, {"seed": 3}, factor=0.01) == "resnet_cifar,shorten=0.01,seed=3"
    for path in CONFIGS:
        config = recipes.load(path, factor=0.002)
        fields.check_fields(config)
        fields.check_together(config, examples=1_000_000, devices=1)
    config = recipes.load(ROOT / "configs" / "quickstart.py", factor=1e-4)
    with pytest.raises(ValueError, match="config.total_epochs=0.0008 is less than one step of 32 images"):
        fields.check_together(config, examples=10_000, devices=1)


@pytest.mark.parametrize(
    ("overrides", "drops"),
    [
        ({}, r"\(1, 1\): two drops coincide"),
        ({"total_steps": 9}, r"\(1, 1\): two drops coincide"),
        ({"total_steps": 9, "optimizer.drop_at_steps": (4, 6)}, ""),
        ({"optimizer.drop_at_steps": ()}, ""),
        ({"optimizer.drop_at_steps": (4, 4)}, ""),  # check_fields refuses these and the next
        ({"optimizer.drop_at_steps": ("a",)}, ""),
    ],
)
def test_drops_that_shorten_makes_coincide_are_refused_unless_they_are_overridden(overrides, drops):
    config = recipes.load(CIFAR, overrides, factor=1e-5)
    refused = pytest.raises(ValueError, match=f"--shorten=1e-05 makes config.optimizer.drop_at_steps={drops}")
    with refused if drops else contextlib.nullcontext():
        shorten.check_drops(config, 1e-5, overrides)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("model.dept", 20, "config.model.dept"),
        ("sede", 1, "config.sede"),
        ("model.depth.x", 1, "config.model.depth.x"),
        ("batch_size", "many", "config.batch_size"),
        ("model", 3, "config.model=3 has the wrong type; set its fields, as in model.bn_group"),
        ("model", {"depth": 8}, "set its fields, as in model.bn_group"),
    ],
)
def test_a_wrong_override_is_named(field, value, named):
    with pytest.raises(ValueError, match=named):
        recipes.load(CIFAR, {field: value})


@pytest.mark.parametrize(
    ("overrides", "devices", "named"),
    [
        ({"batch_size": 129}, 2, "batch_size=129"),
        ({"batch_size": 0}, 1, "batch_size=0"),
        ({"total_steps": 40_000}, 1, "a drop comes at step 48000, not before the end"),
        ({"seed": -1}, 1, "seed=-1"),
        ({"optimizer.drop_at_steps": (float("nan"),)}, 1, "drop_at_steps"),
        ({"optimizer.momentum": 1.0}, 1, "momentum=1.0"),
        ({"optimizer.learning_rate": float("inf")}, 1, "learning_rate=inf"),
        ({"optimizer.warm_up_until_error": float("nan")}, 1, "warm_up_until_error=nan"),
        ({"total_steps": 0, "optimizer.drop_at_steps": ()}, 1, "total_steps=0"),
        ({"optimizer.drop_at_steps": (48_000, 32_000)}, 1, "drop_at_steps"),
        ({"optimizer.drop_at_steps": ("x",)}, 1, "drop_at_steps"),
        ({"optimizer.learning_rate": -0.1}, 1, "learning_rate=-0.1"),
        ({"model.bn_group": 48}, 1, "bn_group=48"),
        ({"model.dtype": "float8"}, 1, "dtype='float8'"),
        ({"log_every_steps": 0}, 1, "log_every_steps=0"),
    ],
)
def test_values_that_cannot_work_are_named(overrides, devices, named):
    config = recipes.load(CIFAR, overrides)
    with pytest.raises(ValueError, match=re.escape(named)):
        fields.check_fields(config)
        fields.check_together(config, examples=50_000, devices=devices)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid_and_say_how_to_run(path):
    config = recipes.load(path)
    fields.check_fields(config)
    fields.check_together(config, examples=50_000, devices=1)
    assert f"python -m deepconv.main --config=configs/{path.name}" in path.read_text()


def test_the_cifar_recipe_is_section_4_2():
    config = recipes.load(CIFAR)
    assert (config.batch_size, config.total_steps, config.optimizer.drop_at_steps) == (128, 64_000, (32_000, 48_000))
    assert (config.optimizer.learning_rate, config.optimizer.momentum, config.optimizer.weight_decay) == (
        0.1,
        0.9,
        1e-4,
    )
    assert (config.optimizer.warm_up_learning_rate, config.optimizer.warm_up_until_error) == (0.01, 80.0)


def test_run_name_is_recipe_and_changes():
    assert recipes.run_name(CIFAR, {"seed": 3, "model.depth": 56}) == "resnet_cifar,model.depth=56,seed=3"
    assert recipes.run_name(CIFAR, {"data.train_split": "train[:1/2]"}) == "resnet_cifar,data.train_split=train_:1_2"
    chain = recipes.run_name(CIFAR, {"seed": 1}, init_from="runs/resnet_cifar,seed=3,init_from=quickstart")
    assert chain == "resnet_cifar,seed=1,init_from=resnet_cifar-a7c5e374"
    assert recipes.run_name(CIFAR, {}, smoke=True) == "resnet_cifar,smoke"
    both = recipes.run_name("rcnn.py", {}, init_from="runs/net", proposals_from="runs/resnet_cifar,seed=3")
    assert both == "rcnn,init_from=net,proposals_from=resnet_cifar-721d25bf"


def test_how_a_run_is_watched_is_not_in_its_name():
    changes = {"log_every_steps": 7, "seed": 3, "checkpoint_every_steps": 9}
    assert recipes.run_name(CIFAR, changes) == "resnet_cifar,seed=3"
    earlier = recipes.run_name(CIFAR, changes, watching=True)
    assert earlier == "resnet_cifar,checkpoint_every_steps=9,log_every_steps=7,seed=3"


def test_runs_that_begin_with_other_weights_have_other_names():
    sources = [
        "runs/vgg11",
        "vgg11,seed=1",
        "vgg11,seed=2",
        "vgg11,seed=1,init_from=vgg11",
        "elsewhere/net.safetensors",
    ]
    layers = [(), ("conv1_1",), ("conv1_1", "conv2_1")]
    names = {recipes.run_name("vgg16.py", {}, init_from=s, init_layers=taken) for s in sources for taken in layers}
    assert len(names) == 15 and {"vgg16,init_from=vgg11", "vgg16,init_from=net.safetensors"} < names
    assert "vgg16,init_layers=conv1_1+conv2_1,init_from=vgg11" in names
    long = [
        recipes.run_name("vgg16.py", {f"model.{'é' * 200}": value}, init_from=s) for value in (1, 2) for s in sources
    ]
    assert len({*long}) == 10 and all(len(name.encode()) < 243 for name in long)
    assert not {*"".join([*names, *long])} & {*"[]*?/"}
    many = recipes.run_name("a.py", {f"optimizer.layers.conv{i}.learning_rate": 0.5 for i in range(9)})
    assert many.startswith("a,") and re.fullmatch(r"(,optimizer\.layers\.conv\d\.learning_rate=0\.5)+-\w{8}", many[1:])


def test_durations_carry_units():
    quickstart = recipes.load(ROOT / "configs" / "quickstart.py")
    assert durations.steps(quickstart, "total", examples=10_000, batch_size=32) == 2_500  # 8 x 312.5
    assert durations.steps(quickstart.optimizer, "drop_at", examples=10_000, batch_size=32) == (1_562, 2_188)
    assert durations.steps(recipes.load(CIFAR), "total", examples=7, batch_size=3) == 64_000


def test_repeated_epochs_end_at_exact_steps():
    fig1 = recipes.load(ROOT / "configs" / "alexnet_cifar.py")  # 390.625 steps an epoch
    due = [step for step in range(1, 15_626) if durations.is_due(fig1, "eval_every", 50_000, 128, step)]
    assert due == [round(epoch * 390.625) for epoch in range(1, 41)]
    twice = recipes.load(ROOT / "configs" / "alexnet_cifar.py", {"eval_every_epochs": 2})
    due = [step for step in range(1, 3_200) if durations.is_due(twice, "eval_every", 50_000, 128, step)]
    assert due == [781, 1562, 2344, 3125]
    cifar = recipes.load(CIFAR)
    assert [step for step in range(1, 2_500) if durations.is_due(cifar, "eval_every", 7, 3, step)] == [1000, 2000]


def test_drops_that_fall_on_one_step_are_refused():
    config = recipes.load(ROOT / "configs" / "quickstart.py", {"optimizer.drop_at_epochs": (5.0, 5.01)})
    with pytest.raises(ValueError, match=r"is at steps \(5, 5\); they must rise"):
        fields.check_together(config, examples=32, devices=1)


def test_differences_are_named_by_field():
    old, new = {"a": 1, "m": {"b": 2, "c": 3}}, {"a": 1, "m": {"b": 5}, "d": 4}
    lines = recipes.differences(old, new)
    assert lines == ["d: (absent) in the run, 4 now", "m.b: 2 in the run, 5 now", "m.c: 3 in the run, (absent) now"]


def test_a_recipe_may_import_those_beside_it_and_no_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipes.load(ROOT / "configs" / "resnet34.py").model.depth == 34
    (tmp_path / "resnet50.py").write_text(CIFAR.read_text().replace("config.seed = 0", "config.seed = 71"))
    (tmp_path / "mine.py").write_text("from resnet50 import get_config")
    assert recipes.load("mine.py").seed == 71
    assert recipes.load(ROOT / "configs" / "resnet101.py").model.depth == 101
    assert str(ROOT / "configs") not in sys.path and "resnet50" not in sys.modules


def test_recipes_are_found_by_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipes.find("resnet50") == recipes.find("configs/resnet50.py") == ROOT / "configs" / "resnet50.py"
    with pytest.raises(ValueError, match="--config=configs/resnet5.py does not exist; the nearest recipe is resnet50$"):
        recipes.find("configs/resnet5.py")
    (tmp_path / "configs").mkdir()
    own = tmp_path / "configs" / "resnet50.py"
    own.write_text(CIFAR.read_text())
    assert recipes.find("resnet50").absolute() == recipes.find("configs/resnet50.py").absolute() == own
    assert recipes.find("resnet50.py").absolute() == own and recipes.find("vgg16") == ROOT / "configs" / "vgg16.py"


def test_schedules_of_biases_and_layers_are_scaled_and_checked():
    config = recipes.load(CODE, smoke=True)
    conv1 = config.optimizer.layers.conv1
    assert conv1.drop_at_epochs == pytest.approx((25 / 91, 51 / 91, 67 / 91)) and conv1.freeze_at_epochs < 1
    for field, value, named in [
        ("optimizer.bias.learning_rate", -1.0, "config.optimizer.bias.learning_rate=-1.0"),
        ("optimizer.layers.conv1.drop_at_epochs", (3, 2), "config.optimizer.layers.conv1.drop_at_epochs=(3, 2)"),
        ("optimizer.layers.conv1.drop_at_epochs", (95,), "config.optimizer.layers.conv1.drop_at_epochs=(95,)"),
        ("optimizer.layers.conv1.freeze_at_epochs", 91.0, "config.optimizer.layers.conv1.freeze_at_epochs=91.0"),
        ("model.dropout", 1.0, "config.model.dropout=1.0"),
    ]:
        config = recipes.load(CODE, {field: value})
        with pytest.raises(ValueError, match=re.escape(named)):
            fields.check_fields(config)
            fields.check_together(config, examples=1_000_000, devices=1)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_has_the_fields_that_flags_may_change(path):
    fields = [field for _, model, field, _ in recipes.ADDED if model in ("", recipes.load(path).model.name)]
    assert not [problem for field in fields if (problem := recipes.newer_field(path, field))]


def test_a_flag_for_a_field_that_is_newer_than_the_recipe_says_what_to_add(tmp_path):
    old = tmp_path / "old.py"
    old.write_text(re.sub(r".*ema_decay.*\n", "", CIFAR.read_text()))
    problem = (
        f"config.optimizer.ema_decay is newer than this recipe; add a line to {old}: config.optimizer.ema_decay = 0.0"
    )
    assert recipes.newer_field(old, "optimizer.ema_decay") == problem
    assert recipes.newer_field(old, "optimizer.momentum") == recipes.newer_field(old, "nothing") == ""


def test_a_field_that_came_later_orphans_no_run(tmp_path):
    config = json.loads(recipes.load(CIFAR).to_json())
    old = json.loads(json.dumps(config))
    del old["schema"], old["model"]["shortcut"], old["data"]["std"], old["optimizer"]["ema_decay"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert recipes.read_run(tmp_path) == config and config["schema"] == recipes.SCHEMA
    (tmp_path / "config.json").write_text(json.dumps(config | {"schema": recipes.SCHEMA + 1}))
    with pytest.raises(OSError, match=f"config.json cannot be used.*reads schemas up to {recipes.SCHEMA}"):
        recipes.read_run(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config)[:-9])
    with pytest.raises(OSError, match="config.json is damaged"):
        recipes.read_run(tmp_path)


def test_a_recipe_without_a_later_field_has_its_default(tmp_path):
    (tmp_path / "mine.py").write_text(CIFAR.read_text().replace('config.model.shortcut = "A"', "pass"))
    assert recipes.load(tmp_path / "mine.py").model.shortcut == "A"


ALEXNET, RESNET50 = ROOT / "configs" / "alexnet.py", ROOT / "configs" / "resnet50.py"


@pytest.mark.parametrize(
    ("recipe", "field", "value"),
    [
        (CIFAR, "data.image_size", 10**9),
        (CIFAR, "data.image_size", 100_000),
        (CIFAR, "batch_size", 10**9),
        (CIFAR, "batch_size", True),
        (CIFAR, "total_steps", 10**30),
        (CIFAR, "model.depth", 2**63 - 1),
        (CIFAR, "model.bn_group", -1),
        (CIFAR, "seed", 2**32),
        (CIFAR, "optimizer.drop_factor", 0.0),
        (CIFAR, "optimizer.learning_rate", 1e300),
        (CIFAR, "optimizer.drop_at_steps", (1, 2**31)),
        (CIFAR, "optimizer.drop_at_steps", (1.5,)),
        (ALEXNET, "model.lrn_k", float("inf")),
        (ALEXNET, "model.lrn_k", 0.0),
        (ALEXNET, "total_epochs", 10**30),
        (CODE, "data.lighting_until_epochs", 1e308),
        (CODE, "optimizer.layers.conv1.freeze_at_epochs", float("nan")),
        (RESNET50, "data.test_scale", 10**30),
        (RESNET50, "data.train_scale", (1, "a")),
        (RESNET50, "data.train_scale", (256, 10**9)),
    ],
)
def test_values_beyond_the_limits_are_named(recipe, field, value):
    for smoke in (False, True):
        with pytest.raises(ValueError, match=re.escape(f"config.{field}={value!r}; it must be")):
            fields.check_fields(recipes.load(recipe, {field: value}, smoke))


def test_the_limits_themselves_are_allowed():
    limits = {"seed": 2**32 - 1, "data.image_size": 8192, "optimizer.momentum": 0.0, "batch_size": 1}
    fields.check_fields(recipes.load(CIFAR, limits))


def test_more_than_one_epoch_in_a_batch_and_more_steps_than_can_be_counted_are_refused():
    with pytest.raises(ValueError, match="batch_size=128 is more than the 100 training examples; take 100 at most"):
        fields.check_together(recipes.load(CIFAR), examples=100, devices=1)
    config = recipes.load(ROOT / "configs" / "quickstart.py", {"total_epochs": 10**6})
    with pytest.raises(ValueError, match="total_epochs=1000000 is 31250000000 steps; 2147483647 is the maximum"):
        fields.check_together(config, examples=1_000_000, devices=1)


@pytest.mark.parametrize("given", [{}, {"test_scale": 32}])
def test_photographs_need_a_recipe_that_says_how_to_test_them(given):
    config = recipes.load(ROOT / "configs" / "quickstart.py")
    with config.unlocked():
        config.data.update({"train_scale": (32, 32)} | given)
    missing = "central_square" if given else "test_scale"
    with pytest.raises(ValueError, match=f"^config.data.{missing} is missing, and the images of shapes have many") as e:
        task_lib.prepare(config)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("config.seed = 0", "pass", "config.seed is missing"),
        ('config.data.mean = "pixel"', "pass", "config.data.mean is missing"),
        ("config.optimizer.momentum = 0.9", "pass", "config.optimizer.momentum is missing"),
        ("config.total_steps = 64_000", "pass", "one of total_steps and total_epochs; it has neither"),
        ("return config", "config.total_epochs = 3; return config", "one of total_steps and total_epochs"),
        ("return config", 'del config.model; config.model = "resnet"; return config', "config.model='resnet'; it must"),
        ("return config", 'config.model = "resnet"; return config', "TypeError in line"),
        ("return config", "del config.optimizer; return config", "config.optimizer is missing"),
        ("(32_000, 48_000)", "[1, 2]", "config.optimizer.drop_at_steps=[1, 2]; it must be numbers such as"),
        ("config.seed = 0", 'config.seed = "0"', "config.seed='0'; it must be a whole number from 0"),
        ("residual = True", 'residual = "no"', "config.model.residual='no'; it must be True or False"),
        ("momentum = 0.9", "momentun = 0.9", "config.optimizer.momentum is missing"),
        ("return config", "config.optimizer.wd = 1; return config", "config.optimizer.wd is not a field of any recipe"),
        ("return config", "config.data.imagesize = 1; return config", "did you mean image_size?"),
        ("return config", "return {}", "get_config() returns a dict, not a ConfigDict"),
        ("return config", "pass", "get_config() returns a NoneType, not a ConfigDict"),
        ("return config", "return confg", "NameError in line"),
        ("return config", "return (", "SyntaxError"),
        ("from ml_collections", "from ml_collection", "ModuleNotFoundError in line"),
        ("def get_config", "def get_recipe", "it has no function get_config()"),
    ],
)
def test_a_recipe_of_one_s_own_with_a_mistake_is_answered_in_one_line(tmp_path, old, new, named):
    text = CIFAR.read_text()
    assert old in text
    (tmp_path / "mine.py").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=re.escape(named)) as error:
        recipes.load(tmp_path / "mine.py", smoke=True)
    assert str(error.value).startswith(f"--config={tmp_path}/mine.py") and "\n" not in str(error.value)


def test_a_home_that_is_unknown_is_named():
    with pytest.raises(ValueError, match="the home directory in ~nosuchuser/x is unknown"):
        expanded("~nosuchuser/x")


@pytest.mark.parametrize("text", ["{}", '{"model": "resnet"}', "[]", '{"model": {}, "data": {}}', "\0\xff"])
def test_a_config_json_without_what_every_recipe_has_is_named(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin1"))
    with pytest.raises(OSError, match=r"config\.json (cannot be used|is damaged): "):
        recipes.read_run(tmp_path)


def test_a_number_of_examples_that_is_none_is_named(tmp_path):
    config = json.loads(recipes.load(CIFAR).to_json())
    (tmp_path / "config.json").write_text(json.dumps(config | {"train_data": "abc"}))
    with pytest.raises(OSError, match="config.json cannot be used: train_data is 'abc', not a number of examples"):
        recipes.read_run(tmp_path)


def test_a_recipe_that_leaves_is_no_recipe(tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit(3)")
    with pytest.raises(ValueError, match="mine.py is not a recipe: SystemExit in line 1"):
        recipes.load(tmp_path / "mine.py")


def test_all_wrong_fields_are_named_a_line_each():
    changes = {"batch_size": 10**9, "data.image_size": 10**6, "optimizer.drop_factor": 0.0}
    with pytest.raises(ValueError) as caught:
        fields.check_fields(recipes.load(CIFAR, changes))
    lines = str(caught.value).splitlines()
    assert [line.split("=")[0] for line in lines] == [
        "config.batch_size",
        "config.data.image_size",
        "config.optimizer.drop_factor",
    ]


def test_a_localisation_recipe_counts_images_with_boxes(tmp_path):
    for boxes, images in ((True, 544_546), (False, 1_281_167)):
        source = config_command._find(boxes, "imagenet2012", "train", data_dir=str(tmp_path), image_size=224)
        assert source.examples == images


def test_a_warm_up_needs_its_rate_and_its_end():
    for field in ("warm_up_learning_rate", "warm_up_until_error"):
        config = recipes.load(CIFAR).unlock()
        del config.optimizer[field]
        with pytest.raises(ValueError, match=f"config.optimizer.{field} is missing; warm_up_at_depth needs it"):
            fields.check_fields(config)


def test_colour_shifts_end_as_early_in_a_shrunk_recipe():
    config = recipes.load(ROOT / "configs" / "resnet50.py").unlock()
    config.data.lighting_until_steps = config.total_steps // 3
    shrink(config, {})
    assert (config.total_steps, config.data.lighting_until_steps) == (6, 2)
    config = recipes.load(ROOT / "configs" / "alexnet_code.py").unlock()
    del config.data.lighting_until_epochs
    config.data.lighting_until_steps = 300_000  # not in the unit of total_epochs
    shrink(config, {})
    fields.check_together(config, 160, 1)
    assert (config.total_epochs, config.data.lighting_until_steps) == (1, 1)

"""Nets of torchvision and timm, with random weights, through the command line: from their file to probabilities."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import NARROW, ROOT, WIDTH, answers
from PIL import Image

from deepconv.data import decode, synsets
from deepconv.data.sources import shape_drawing

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[parity]'")
torchvision = pytest.importorskip("torchvision", reason="needs torchvision: pip install -e '.[parity]'")
timm = pytest.importorskip("timm", reason="needs timm: pip install -e '.[parity]'")
tensors = pytest.importorskip("safetensors.torch")  # imports torch

CLASSES = 12
SIZE = 224
NETS = {
    "timm vgg11": ("vgg11", "timm", lambda: narrow_net(timm.models.vgg11)),
    "torchvision resnet18": ("resnet18", "torchvision", lambda: torchvision.models.resnet18(num_classes=CLASSES)),
    "torchvision resnet50": ("resnet50", "torchvision", lambda: torchvision.models.resnet50(num_classes=CLASSES)),
    "torchvision vgg11": ("vgg11", "torchvision", lambda: narrow_net(torchvision.models.vgg11)),
    "torchvision alexnet": ("alexnet", "torchvision", lambda: narrow_net(torchvision.models.alexnet)),
    "timm resnet34": ("resnet34", "timm", lambda: timm.create_model("resnet34", num_classes=CLASSES)),
}


def narrow_net(create):
    """A VGG or AlexNet with narrow fully connected layers, as whole ones have files of half a GB; any weights."""
    with torch.device("meta"):  # the wide layers are never in memory
        net = create(num_classes=CLASSES)
        if hasattr(net, "classifier"):  # torchvision's
            places = [place for place, module in enumerate(net.classifier) if isinstance(module, torch.nn.Linear)]
            sizes = [net.classifier[places[0]].in_features, WIDTH, WIDTH, CLASSES]
            for place, inputs, outputs in zip(places, sizes[:-1], sizes[1:], strict=True):
                net.classifier[place] = torch.nn.Linear(inputs, outputs)
        else:
            net.pre_logits.fc1 = torch.nn.Conv2d(512, WIDTH, 7)
            net.pre_logits.fc2 = torch.nn.Conv2d(WIDTH, WIDTH, 1)
            net.head.fc = torch.nn.Linear(WIDTH, CLASSES)
    return net.to_empty(device="cpu")


def randomise(net):
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                torch.nn.init.normal_(module.bias, std=0.05)
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.3, 0.7)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A data set of eight photographs of twelve classes, one of them as large as a crop."""
    folder = tmp_path_factory.mktemp("libraries")
    for split in ("train", "val"):
        for label in range(CLASSES):
            (folder / "photos" / split / f"class{label:02d}").mkdir(parents=True)
    images = []
    for i, shape in enumerate([(SIZE, SIZE), (230, 300), (400, 256), (256, 256)] * 2):
        image, _, _ = shape_drawing.draw(i, *shape)
        path = folder / "photos" / "val" / f"class{i:02d}" / f"{i}.png"
        Image.fromarray(image).save(path)
        images.append(image)
    for label in range(CLASSES):
        for split in ("train", "val"):
            path = folder / "photos" / split / f"class{label:02d}"
            if not list(path.iterdir()):
                path.rmdir() if split == "val" else Image.fromarray(images[0]).save(path / "0.png")
    return folder, images


def theirs(net, images):
    """Their probabilities, float64, of central crops, prepared as torchvision's and timm's documentation says."""
    to_tensor = torchvision.transforms.Compose(
        [
            torchvision.transforms.ToTensor(),
            torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    crops = []
    for image in images:
        image = decode.rescale(image, 256)
        top, left = ((side - SIZE) // 2 for side in image.shape[:2])
        crops.append(to_tensor(image[top : top + SIZE, left : left + SIZE]))
    with torch.no_grad():
        return net(torch.stack(crops)).double()


def probabilities(folder, workdir):
    """By class, in the order of the photographs."""
    labels = np.load(folder / workdir / "labels.npy")
    return np.load(folder / workdir / "probs.center.npy")[np.argsort(labels)]


def file_of(name):
    return name.replace(" ", "_")


def told(name, folder, images):
    """Their scores of a net, and what predict says of the photographs; the commands' files lie beside these."""
    recipe, library, create = NETS[name]
    torch.manual_seed(0)
    net, key = randomise(create()), file_of(name)
    file, tested = f"{key}.safetensors", f"{key}.tested"
    tensors.save_file(net.state_dict(), folder / file)
    scores, printed = theirs(net, images), {}
    data = ["--data_dir=.", "--config.data.name=photos", "--config.data.eval_split=val", "--config.batch_size=8"]
    config, said = f"--config={ROOT}/configs/{recipe}.py", f"--library={library}"
    files = [f"photos/val/class{i:02d}/{i}.png" for i in range(8)]
    commands = [
        ("weights", ["import", config, said, f"--from={file}", f"--out={key}"], None),
        ("predict", [f"--run={key}", *files], None),
        ("main", [config, *data, f"--init_from={key}", "--notrain", f"--workdir={tested}"], key),
        ("weights", ["export", f"--run={tested}", said, f"--to={key}.back.safetensors"], f"{tested}/checkpoints"),
        ("main", [config, *data, f"--init_from={file}", said, "--evals=center", f"--workdir={key}.file"], file),
    ]
    for module, arguments, gone in commands:
        ((code, out, err, _),) = answers(folder, f"deepconv.{module}", [(arguments, "")], NARROW)
        assert code == 0 and "does not record" not in err, err
        printed[module] = out
        if gone:  # as files are large
            (shutil.rmtree if (folder / gone).is_dir() else os.remove)(folder / gone)
    shutil.rmtree(folder / f"{key}.file" / "checkpoints")
    return scores, printed["predict"]


def test_the_words_of_classes_are_torchvision_s_but_for_a_few():
    theirs, words = torchvision.models._meta._IMAGENET_CATEGORIES, synsets.imagenet_words().values()
    assert sum(name in own for name, own in zip(theirs, words, strict=True)) > 990


@pytest.mark.parametrize("name", NETS)
def test_a_file_gives_its_library_s_numbers_and_goes_back(name, photos):
    folder, images = photos
    scores, predicted = told(name, folder, images)
    key = file_of(name)
    assert scores.std(0).min() > 1e-3 and scores.abs().max() < 100  # images matter, and softmax does not saturate
    expected = scores.softmax(-1).numpy()
    for workdir in (f"{key}.tested", f"{key}.file"):
        np.testing.assert_allclose(probabilities(folder, workdir), expected, atol=1e-5)
    likeliest = [line for line in predicted.splitlines() if line.startswith("  ")][::5]
    for line, row in zip(likeliest, expected, strict=True):
        assert line.endswith(f"  {row.argmax()}") and float(line.split()[0]) == pytest.approx(row.max(), abs=0.0051)

    again = NETS[name][2]().eval()
    again.load_state_dict(tensors.load_file(folder / f"{key}.back.safetensors"), strict=True)
    os.remove(folder / f"{key}.back.safetensors")
    np.testing.assert_allclose(theirs(again, images), scores, rtol=1e-5, atol=1e-5)


def test_a_scale_is_folded_and_another_order_of_colours_is_undone(photos):
    """The same net, as made for images from -1 to 1, for BGR, and for torchvision's images."""
    folder, images = photos
    torch.manual_seed(1)
    net = randomise(torchvision.models.resnet18(num_classes=CLASSES))
    expected = theirs(net, images).softmax(-1).numpy()
    ours = {"conv1.weight": net.conv1.weight.detach().clone()}
    std = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    variants = {
        "123.675,116.28,103.53/127.5,127.5,127.5": ours["conv1.weight"] / std * 0.5,
        "123.675,116.28,103.53": ours["conv1.weight"] / std / 255,
    }
    config = f"--config={ROOT}/configs/resnet18.py"
    model = [f"--config.model.{field}" for field in ("shortcut=B", "stride_on=3x3", "pool1=symmetric")]
    data = ["--data_dir=.", "--config.data.name=photos", "--config.data.eval_split=val", "--config.batch_size=8"]
    for number, (given, kernel) in enumerate(variants.items()):
        state = net.state_dict() | {"conv1.weight": kernel.contiguous()}
        tensors.save_file(state, folder / f"scaled{number}.safetensors")
        arguments = [config, *model, *data, f"--init_from=scaled{number}.safetensors", f"--input={given}"]
        ((code, _, err, _),) = answers(
            folder, "deepconv.main", [([*arguments, "--evals=center", f"--workdir=scaled{number}"], None)]
        )
        assert code == 0, err
        np.testing.assert_allclose(probabilities(folder, f"scaled{number}"), expected, atol=1e-5)
        export = ["export", f"--run=scaled{number}", "--library=torchvision", f"--to=folded{number}.safetensors"]
        ((code, out, err, _),) = answers(folder, "deepconv.weights", [(export, None)])
        assert code == 0 and "RGB from 0 to 255 minus the colour 123.675,116.28,103.53, divided by 58.395" in out, err
        again = torchvision.models.resnet18(num_classes=CLASSES).eval()
        again.load_state_dict(tensors.load_file(folder / f"folded{number}.safetensors"), strict=True)
        np.testing.assert_allclose(theirs(again, images).softmax(-1).numpy(), expected, atol=1e-5)
        record = json.loads((folder / f"scaled{number}" / "config.json").read_text())["data"]
        assert (record["mean"] + "/" + record["std"]).removesuffix("/none") == given
    # caffe's order of colours: its first kernel sees blue first
    mean = torch.tensor([123.68, 116.779, 103.939])
    kernel = (ours["conv1.weight"] / std / 255).flip(1).contiguous()
    tensors.save_file(net.state_dict() | {"conv1.weight": kernel}, folder / "bgr.safetensors")
    arguments = [config, *model, *data, "--init_from=bgr.safetensors", "--input=caffe", "--evals=center"]
    ((code, _, err, _),) = answers(folder, "deepconv.main", [([*arguments, "--workdir=bgr"], None)])
    assert code == 0, err
    crops = []
    for image in images:
        image = decode.rescale(image, 256)
        top, left = ((side - SIZE) // 2 for side in image.shape[:2])
        crops.append(torch.tensor(image[top : top + SIZE, left : left + SIZE]).float() - mean)
    net.conv1.weight = torch.nn.Parameter(kernel)
    with torch.no_grad():
        probs = net(torch.stack(crops).permute(0, 3, 1, 2).flip(1)).double().softmax(-1).numpy()
    np.testing.assert_allclose(probabilities(folder, "bgr"), probs, atol=1e-5)

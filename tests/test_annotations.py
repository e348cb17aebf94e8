"""Images with boxes as they lie on disk, whole and malformed."""

import json
import pickle
import shutil
import tracemalloc
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from conftest import real_data

from deepconv.boxes import average_precision, coco, geometry, localization_error
from deepconv.boxes.average_precision import Detections
from deepconv.data import decode, sources
from deepconv.data.images import DataError
from deepconv.data.sources import shape_drawing, voc
from deepconv.data.sources.coco import read_annotations, read_coco
from deepconv.data.sources.folders import imagenet_validation_labels
from deepconv.data.sources.imagenet_boxes import read_imagenet_boxes
from deepconv.data.sources.shape_boxes import read_shape_boxes
from deepconv.data.sources.voc import image_labels, read_actions, read_voc


def check_whole(split):
    """Shapes, types and padding, and that every row's image has the size that its annotation states."""
    count, most = split.classes.shape
    assert split.boxes.shape == (count, most, 4) and split.difficult.shape == split.crowd.shape == (count, most)
    assert split.boxes.dtype == np.float32 and split.classes.dtype == split.sizes.dtype == np.int32
    real = split.classes >= 0
    assert (real[:, :-1] >= real[:, 1:]).all() and real.sum(1).max() == most  # padding comes last, no more than needed
    assert not split.boxes[~real].any() and not split.difficult[~real].any() and not split.crowd[~real].any()
    assert (geometry.area(split.boxes[real]) > 0).all()
    for row, record in enumerate(split.images.read(range(count))):
        height, width = decode.decode(record.data).shape[:2]
        np.testing.assert_array_equal(split.boxes_in(row, height, width), split.boxes[row])
        assert str(split.ids[row]) in record.name or split.class_names == shape_drawing.CLASSES
        with pytest.raises(DataError, match=f"{split.ids[row]} has {width + 1} x {height} pixels, .* {width} x "):
            split.boxes_in(row, height, width + 1)


def as_arrays(rows, **types):
    """The columns of rows that are dictionaries."""
    return [np.array([row[name] for row in rows], kind) for name, kind in types.items()]


# VOC


@pytest.mark.parametrize("split, count", [("train", 10), ("val", 10), ("trainval", 20), ("test", 10), ("test[2:5]", 3)])
def test_voc(split, count):
    folder = real_data("boxes") / "voc-layout/VOC2007"
    found = read_voc(folder, split)
    check_whole(found)
    base, _, part = split.partition("[")
    names = (folder / f"ImageSets/Main/{base}.txt").read_text().split()[2 if part else 0 :][:count]
    assert found.ids.tolist() == names and len(names) == count and found.class_names == voc.CLASSES
    for row, name in enumerate(names):
        items = list(ET.parse(folder / f"Annotations/{name}.xml").iter("object"))
        boxes = [[float(item.findtext(f"bndbox/{s}")) for s in ("xmin", "ymin", "xmax", "ymax")] for item in items]
        np.testing.assert_array_equal(geometry.to_voc(found.boxes[row, : len(items)]), boxes)
        assert [voc.CLASSES[k] for k in found.classes[row, : len(items)]] == [item.findtext("name") for item in items]
        difficult = [item.findtext("difficult") == "1" for item in items]
        assert found.difficult[row, : len(items)].tolist() == difficult and (found.classes[row, len(items) :] < 0).all()


def test_voc_counts_and_labels():
    folder = real_data("boxes") / "voc-layout/VOC2007"
    halves = [read_voc(folder, split) for split in ("trainval", "test")]
    assert sum((half.classes >= 0).sum() for half in halves) == 210
    assert sum(half.difficult.sum() for half in halves) == 28
    for half, split in zip(halves, ("trainval", "test"), strict=True):
        labels = image_labels(folder, split)
        assert labels.shape == (len(half.ids), 20) and {-1, 0, 1} == set(labels.ravel().tolist())
        for row in range(len(half.ids)):
            easy, all_classes = half.classes[row][~half.difficult[row]], half.classes[row]
            expected = [1 if k in easy else 0 if k in all_classes else -1 for k in range(20)]
            assert labels[row].tolist() == expected
    np.testing.assert_array_equal(image_labels(folder, "test[3:]", ("dog", "cat")), labels[3:, [11, 7]])


@pytest.mark.parametrize("measure", [average_precision.eleven_point, average_precision.area])
def test_voc_gives_the_stored_average_precision(measure):
    layout = real_data("boxes") / "voc-layout"
    split = read_voc(layout / "VOC2007", "trainval")
    rows = json.loads((layout / "reference/detections_trainval.json").read_text())
    scores, boxes = as_arrays(rows, score=float, box=float)
    images = np.array([split.ids.tolist().index(row["image"]) for row in rows])
    classes = np.array([voc.CLASSES.index(row["class"]) for row in rows])
    detections = Detections(images, classes, scores, geometry.from_voc(boxes))
    result = average_precision.average_precision(detections, split.objects(), 20, measure)
    reference = json.loads((layout / "reference/average_precision.json").read_text())["mean"][measure.__name__]
    assert abs(np.nanmean(result) / 100 - reference) < 1e-9


def test_classes_without_lists():
    folder = real_data("boxes") / "voc-layout/BCCD"
    halves = [read_voc(folder, split) for split in ("trainval", "test")]
    assert [len(half.ids) for half in halves] == [26, 10]
    assert sum((half.classes >= 0).sum() for half in halves) == 694 and not any(h.difficult.any() for h in halves)
    assert halves[0].class_names == halves[1].class_names == ("Platelets", "RBC", "WBC")
    check_whole(halves[1])


GOOD = """<annotation><filename>%s</filename><size><width>100</width><height>50</height><depth>3</depth></size>
<object><name>person</name><bndbox><xmax>30.5</xmax><xmin>0</xmin><ymin>11</ymin><ymax>51</ymax></bndbox>
<part><name>head</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part></object>
<object><name>dog</name><difficult>1</difficult>
<bndbox><xmin>7</xmin><ymin>8</ymin><xmax>7</xmax><ymax>9</ymax></bndbox></object></annotation>"""


def voc_folder(folder, **annotations):
    """VOC's layout with these annotations by name of the image, without a list of a class."""
    for part in ("Annotations", "JPEGImages", "ImageSets/Main", "ImageSets/Action"):
        (folder / part).mkdir(parents=True)
    for name, text in annotations.items():
        (folder / f"Annotations/{name}.xml").write_text(text)
        (folder / f"JPEGImages/{name}.jpg").touch()
    (folder / "ImageSets/Main/train.txt").write_text("\n".join(annotations))
    return folder


def test_voc_by_hand(tmp_path):
    nothing = GOOD[: GOOD.index("<object>")] + "</annotation>"
    split = read_voc(voc_folder(tmp_path, a=nothing, b=GOOD), "train")
    assert split.class_names == voc.CLASSES and split.ids.tolist() == ["a", "b"]
    # a pixel beyond the image is rounding; decimals stay; a part is not an object; one pixel is an object
    np.testing.assert_array_equal(split.boxes, [np.zeros((2, 4)), [[0, 10, 30.5, 50], [6, 7, 7, 9]]])
    assert split.classes.tolist() == [[-1, -1], [14, 11]] and split.difficult[1].tolist() == [False, True]
    assert split.sizes.tolist() == [[50, 100]] * 2
    empty = read_voc(tmp_path, "train[:1]")
    assert empty.boxes.shape == (1, 1, 4) and len(empty.objects().images) == 0
    (tmp_path / "Annotations/elsewhere.xml").write_text(GOOD.replace("dog", "a dragon"))
    assert read_voc(tmp_path, "train").class_names == ("a dragon", "dog", "person")  # the same for every split


MALFORMED = [
    (
        "<xmax>30.5<",
        "<xmax>102<",
        r"1 \(person\) has xmin, ymin, xmax, ymax 0, 11, 102, 51: it leaves .* 100 x 50 pixels",
    ),
    ("<ymin>11<", "<ymin>-1<", "0, -1, 30.5, 51: it leaves its image"),
    ("<ymax>51<", "<ymax>52<", "0, 11, 30.5, 52: it leaves its image"),
    ("<xmax>7<", "<xmax>5<", r"2 \(dog\) has xmin, ymin, xmax, ymax 7, 8, 5, 9: its right or bottom is before"),
    ("<xmax>7<", "<xmax>6<", "7, 8, 6, 9: it has no area"),
    ("dog", "dragon", "object 2 is of the class 'dragon'; known are aeroplane, "),
    ("<name>dog</name>", "", "object 2 has no <name>"),
    ("<size>", "<other>", "cannot be parsed as XML: mismatched tag"),
    ("<width>100</width>", "", "has no <size/width>"),
    ("<width>100<", "<width>0<", "states a height of 50 and a width of 0"),
    ("<xmin>7<", "<xmin>seven<", "object 2 has the xmin 'seven', not a number"),
    ("<xmin>7<", "<xmin>nan<", "object 2 has the xmin 'nan', not a number"),
    ("<xmin>7</xmin>", "", "object 2 has no <bndbox/xmin>"),
    ("<difficult>1<", "<difficult>yes<", "object 2 has difficult 'yes'; 0 and 1 are allowed"),
]


@pytest.mark.parametrize("right, wrong, message", MALFORMED)
def test_malformed_annotations_are_named(tmp_path, right, wrong, message):
    assert GOOD.count(right) == 1
    folder = voc_folder(tmp_path, good=GOOD, bad=GOOD.replace(right, wrong))
    (folder / "ImageSets/Main/dog_train.txt").write_text("good 1\nbad 1\n")  # with lists, the classes are known
    (folder / "ImageSets/Main/person_train.txt").write_text("good 1\nbad 1\n")
    with pytest.raises(DataError, match=message) as raised:
        read_voc(folder, "train")
    (line,) = str(raised.value).splitlines()
    assert line.startswith(str(folder / "Annotations/bad.xml"))
    assert len(read_voc(folder, "train[:1]").ids) == 1


def test_all_mistakes_are_named_at_once(tmp_path):
    bad = GOOD.replace("<xmax>7<", "<xmax>6<").replace("<ymax>51<", "<ymax>90<")
    folder = voc_folder(tmp_path, a=bad, b="", c=GOOD, d=GOOD, **{f"e{i}": bad for i in range(20)})
    (folder / "JPEGImages/c.jpg").unlink()
    (folder / "Annotations/d.xml").unlink()
    with pytest.raises(DataError) as raised:
        read_voc(folder, "train")
    lines = str(raised.value).splitlines()
    assert len(lines) == 21 and lines[-1] == "and 25 more"  # two each of 21 files, and three
    for part in (
        "b.xml cannot be parsed",
        "d.xml is missing",
        "c.jpg is missing",
        "a.xml: object 1",
        "a.xml: object 2",
    ):
        assert sum(part in line for line in lines) == 1, part


def test_wrong_lists_of_voc(tmp_path):
    folder = voc_folder(tmp_path, a=GOOD, b=GOOD)
    with pytest.raises(ValueError, match=r"no split 'test' in .*; choose one of \['train'\]"):
        read_voc(folder, "test")
    (folder / "ImageSets/Main/val.txt").write_text("a\nb\na\n")
    with pytest.raises(DataError, match="val.txt lists the image a twice"):
        read_voc(folder, "val")
    listing = folder / "ImageSets/Main/dog_train.txt"
    for text, message in [
        ("a 1\n", "dog_train.txt has no line for the image b, which train.txt lists"),
        ("a 1\nb 2\n", "dog_train.txt, line 2, is 'b 2'"),
        ("a 1\nb\n", "line 2, is 'b'; it should be 2 words"),
        ("a 1\na 0\n", "line 2, is the second line for a; remove one"),
        (None, "dog_train.txt cannot be read: No such file"),
    ]:
        listing.unlink() if text is None else listing.write_text(text)
        with pytest.raises(DataError, match=message):
            image_labels(folder, "train", ["dog"])


def test_actions_by_hand(tmp_path):
    other = GOOD.replace("dog", "person").replace("<xmax>7<", "<xmax>17<")
    folder = voc_folder(tmp_path, a=GOOD, b=other)
    for column, action in enumerate(voc.ACTIONS):
        labels = [1 if column == row * 3 else -1 for row in range(3)]
        text = "".join(
            f"{person}  {label}\n" for person, label in zip(("b   2", "a   1", "b   1"), labels, strict=True)
        )
        (folder / f"ImageSets/Action/{action}_train.txt").write_text(text)
    part, labels = read_actions(folder, "train[1:]")
    assert part.ids.tolist() == ["a", "b"] and labels.shape == (2, len(voc.ACTIONS))
    with pytest.raises(ValueError, match=r"no split 'val' in .*Action; choose one of \['train'\]"):
        read_actions(folder, "val")
    people, labels = read_actions(folder, "train")
    assert people.ids.tolist() == ["b", "a", "b"] and people.class_names == ("person",)
    np.testing.assert_array_equal(people.boxes[:, 0], [[6, 7, 17, 9], [0, 10, 30.5, 50], [0, 10, 30.5, 50]])
    assert people.classes.tolist() == [[0]] * 3 and labels.dtype == np.int8
    np.testing.assert_array_equal(labels, 2 * np.eye(10, dtype=int)[[0, 3, 6]] - 1)
    assert [record.name.split()[0] for record in people.images.read([1, 2])] == ["JPEGImages/a.jpg", "JPEGImages/b.jpg"]
    reading = folder / "ImageSets/Action/reading_train.txt"
    reading.write_text("b 2 1\na 1 1\n")
    with pytest.raises(DataError, match="reading_train.txt and jumping_train.txt differ in object 1 of b"):
        read_actions(folder, "train")
    for person, message in (("a 3", "a.xml has 2 objects; .* a label of object 3"), ("a 2", "2 is of the class 'dog'")):
        for action in voc.ACTIONS:
            (folder / f"ImageSets/Action/{action}_train.txt").write_text(f"{person} 1\n")
        with pytest.raises(DataError, match=message):
            read_actions(folder, "train")


# COCO


@pytest.mark.parametrize("split, count, objects", [("train2017", 24, 183), ("val2017", 26, 268)])
def test_coco(split, count, objects):
    folder = real_data("boxes") / "coco-layout"
    found = read_coco(folder, split)
    check_whole(found)
    assert len(found.ids) == count and (found.classes >= 0).sum() == objects and found.crowd.sum() == 4
    assert (found.classes < 0).all(1).sum() == (split == "train2017")  # one image without objects stays
    assert not found.difficult.any() and found.objects().difficult.sum() == 4
    content = json.loads((folder / f"annotations/instances_{split}.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert len(found.class_names) == 80 and found.class_names[0] == "person" and found.class_names[-1] == "toothbrush"
    for row, image in enumerate(found.ids.tolist()):
        items = [item for item in content["annotations"] if item["image_id"] == image]
        real = found.classes[row] >= 0
        boxes = geometry.to_coco(found.boxes[row, real])
        np.testing.assert_allclose(boxes, np.reshape([item["bbox"] for item in items], (-1, 4)), atol=1e-4)
        labels = [found.class_names[number] for number in found.classes[row, real]]
        assert labels == [names[item["category_id"]] for item in items]
        assert found.crowd[row, real].tolist() == [item["iscrowd"] == 1 for item in items]
    part = read_coco(folder, f"{split}[5:7]")
    assert (
        part.ids.tolist() == found.ids[5:7].tolist() and part.classes.shape[1] == (found.classes >= 0).sum(1)[5:7].max()
    )


def test_coco_gives_the_stored_metrics():
    folder = real_data("boxes") / "coco-layout"
    annotations, split = read_annotations(folder, "val2017"), read_coco(folder, "val2017")
    assert not any("segmentation" in annotation for annotation in annotations["annotations"])
    rows = json.loads((folder / "reference/detections_val2017.json").read_text())
    images, categories, scores, boxes = as_arrays(rows, image_id=int, category_id=int, score=float, bbox=float)
    numbers = np.searchsorted(sorted(category["id"] for category in annotations["categories"]), categories)
    assert np.isin(images, split.ids).all()
    result = coco.evaluate(annotations, Detections(images, numbers, scores, geometry.from_coco(boxes)))
    for name, expected in json.loads((folder / "reference/average_precision.json").read_text())["stats"].items():
        assert abs(result[name] / 100 - expected) < 1e-9, name


def coco_content():
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 50, "width": 100} for number in (9, 4)]
    objects = [(9, 3, [10, 20, 30, 30.5], 0), (4, 7, [0, 0, 100, 50], 1), (9, 7, [99.5, 2, 0.75, 4], 0)]
    keys = ("image_id", "category_id", "bbox", "iscrowd")
    annotations = [
        dict(zip(keys, row, strict=True), id=i, area=7, segmentation=[[1.5] * 9]) for i, row in enumerate(objects)
    ]
    categories = [{"id": 7, "name": "kite"}, {"id": 3, "name": "boat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco_folder(folder, content):
    for part in ("annotations", "tiny"):
        (folder / part).mkdir()
    for name in ("9.jpg", "4.jpg"):
        (folder / "tiny" / name).touch()
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "annotations/instances_tiny.json").write_text(text)
    return folder


def test_coco_by_hand(tmp_path, capsys):
    content = coco_content()
    content["annotations"][0]["bbox"] = [10, 20, 30, 0.0]
    split = read_coco(coco_folder(tmp_path, content), "tiny")
    assert split.ids.tolist() == [9, 4] and split.class_names == ("boat", "kite")
    assert split.classes.tolist() == [[0, 1], [1, -1]] and split.crowd.tolist() == [[False, False], [True, False]]
    np.testing.assert_array_equal(split.boxes[0], [[10, 20, 40, 20], [99.5, 2, 100, 6]])  # the second is clipped
    assert split.difficult.tolist() == [[True, False], [False, False]]
    (line,) = capsys.readouterr().out.splitlines()
    assert "annotation 0 has the bbox [10, 20, 30, 0.0], without area" in line


def change(kind, row, **fields):
    content = coco_content()
    content[kind][row] |= fields
    return content


@pytest.mark.parametrize(
    "content, message",
    [
        (
            change("annotations", 1, bbox=[0, 0, 102, 50]),
            r"annotation 1 has the bbox \[0, 0, 102, 50\]: it leaves .*100 x 50",
        ),
        (change("annotations", 1, bbox=[0, -2, 10, 10]), r"\[0, -2, 10, 10\]: it leaves its image"),
        (change("annotations", 1, bbox=[5, 5, -3, 4]), r"\[5, 5, -3, 4\]: its right or bottom is before"),
        (change("annotations", 1, bbox=[5, 5, 3]), r"entry 2 of annotations has the bbox \[5, 5, 3\]; four numbers"),
        (change("annotations", 1, bbox=[5, 5, 3, float("nan")]), "nan]; four numbers are needed"),
        (change("annotations", 1, category_id=5), "annotation 1 has the category 5; known are 3, 7"),
        (change("annotations", 1, image_id=5), "annotation 1 is on image 5, which is not among the 2 images"),
        (change("annotations", 1, iscrowd=None), "entry 2 of annotations has iscrowd None"),
        (change("annotations", 1, iscrowd=7), "entry 2 of annotations has iscrowd 7; it must be 0 or 1"),
        (change("annotations", 1, bbox=[5, 5, 3, 10**400]), "1000.*; four numbers are needed"),
        (change("images", 1, id=True), "entry 2 of images has id True"),
        (change("images", 1, id=2**63), "entry 2 of images has the id 9223372036854775808; it must be below"),
        (change("images", 1, width=10**10), "entry 2 of images has a height of 50 and a width of 10000000000"),
        (change("images", 1, width=0), "entry 2 of images has a height of 50 and a width of 0"),
        (change("images", 1, file_name="5.jpg"), "tiny/5.jpg is missing"),
        (change("images", 1, id=9), "two images have the id 9"),
        (change("categories", 1, id=7), "two categories have the id 7"),
        (coco_content() | {"images": [{"id": 1}]}, "entry 1 of images has no 'file_name'"),
        (coco_content() | {"annotations": ["x"]}, "entry 1 of annotations is 'x', not an object with id"),
        ({"images": []}, "has no list 'categories'; COCO's format has images, categories, annotations"),
        ([], "has no list 'images'"),
        (json.dumps(coco_content())[:-9], "instances_tiny.json is damaged: "),
    ],
)
def test_malformed_entries_of_coco_are_named(tmp_path, content, message):
    folder = coco_folder(tmp_path, content)
    with pytest.raises(DataError, match=message) as raised:
        read_coco(folder, "tiny")
    (line,) = str(raised.value).splitlines()
    assert str(folder) in line
    with pytest.raises(ValueError, match=r"no split 'small' .*; choose one of \['tiny'\]"):
        read_coco(folder, "small")


def test_outlines_take_no_memory(tmp_path):
    content = coco_content()
    content["annotations"] = [
        content["annotations"][0] | {"id": i, "segmentation": [[x + 0.25 for x in range(i % 7, 400)]]}
        for i in range(1000)
    ]
    folder = coco_folder(tmp_path, content)
    size = (folder / "annotations/instances_tiny.json").stat().st_size
    tracemalloc.start()
    read_annotations(folder, "tiny")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 2e6 and peak < 2.6 * size  # the bytes and the text of the file; with outlines, 7 times


# ImageNet


TRAIN = GOOD.replace("person", "Scottish_deerhound").replace("<ymax>51<", "<ymax>-4<").replace("<xmax>7<", "<xmax>190<")


def imagenet_folder(folder):
    for name in ("n01440764/n01440764_1", "n01484850/n01484850_9", "n01484850/n01484850_10"):
        for file in (folder / f"images/train/{name}.JPEG", folder / f"boxes/train/{name}.xml"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(TRAIN)
    (folder / "boxes/train/n01440764/n01440764_1.xml").write_text(GOOD)
    (folder / "boxes/train/n01484850/n01484850_10.xml").unlink()  # an image without boxes
    for number in (1, 36):
        for file in (
            folder / f"images/val/ILSVRC2012_val_{number:08}.JPEG",
            folder / f"boxes/val/ILSVRC2012_val_{number:08}.xml",
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(GOOD)
    return folder / "images", folder / "boxes"


def test_imagenet_by_hand(tmp_path):
    images, boxes = imagenet_folder(tmp_path)
    split = read_imagenet_boxes(images, boxes, "train")
    first, second = np.argsort(split.ids)  # the order is hashed
    assert split.ids[[first, second]].tolist() == ["n01440764_1", "n01484850_9"]
    assert len(split.class_names) == 1000
    assert split.classes[[first, second]].tolist() == [[0, 0], [2, 2]]  # by the folder, whatever <name> says
    assert [record.label for record in split.images.read([first, second])] == [0, 2]
    np.testing.assert_array_equal(split.boxes[first], [[0, 10, 30.5, 50], [6, 7, 7, 9]])
    # y from 11 down to -4 is sorted and clipped; x from 7 to 190 is clipped to 100
    np.testing.assert_array_equal(split.boxes[second], [[0, 0, 30.5, 11], [6, 7, 100, 9]])
    np.testing.assert_array_equal(split.boxes_in(second, 500, 200)[1], [12, 70, 200, 90])  # a JPEG of 200 x 500
    shutil.move(images / "val", images / "flat")
    for number, synset in (
        (1, "n01751748"),
        (36, imagenet_validation_labels()[35]),
    ):  # the validation images in folders of their classes
        (images / "val" / synset).mkdir(parents=True)
        name = f"ILSVRC2012_val_{number:08}"
        shutil.copy(images / "flat" / f"{name}.JPEG", images / "val" / synset)
    in_folders = read_imagenet_boxes(images, boxes, "val")
    assert len(in_folders.images.read(range(2))) == 2


def test_imagenet_gives_ilsvrcs_error(tmp_path):
    images, boxes = imagenet_folder(tmp_path)
    split = read_imagenet_boxes(images, boxes, "validation")
    names = sorted(split.ids.tolist())
    assert names == ["ILSVRC2012_val_00000001", "ILSVRC2012_val_00000036"]
    assert split.class_names[split.classes[split.ids.tolist().index(names[0]), 0]] == "n01751748"
    blacklist = tmp_path / "blacklist.txt"
    blacklist.write_text("36\n")
    counted = localization_error.not_blacklisted(blacklist, np.array([int(name[-8:]) for name in split.ids]))
    assert counted.sum() == 1
    for guess, expected in ((split.boxes[:, 1], 0), (split.boxes[:, 1] + 50, 100)):
        error = localization_error.error_of_true_class(split.classes[:, 1], guess, split.classes, split.boxes, counted)
        assert error == expected


def test_a_box_outside_its_image_is_printed_and_becomes_difficult(tmp_path, capsys):
    images, boxes = imagenet_folder(tmp_path)
    outside = GOOD.replace("<xmin>7<", "<xmin>107<").replace("<xmax>7<", "<xmax>120<")
    (boxes / "train/n01440764/n01440764_1.xml").write_text(outside)
    split = read_imagenet_boxes(images, boxes, "train")
    assert split.difficult[split.ids == "n01440764_1"].tolist() == [[False, True]] and split.difficult.sum() == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert "n01440764_1.xml: object 2 has xmin, ymin, xmax, ymax 107, 8, 120, 9, without area in its image" in line
    with pytest.raises(ValueError, match="not in pixels of the image files"):
        split.objects()


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("n01440764_1", GOOD.replace("<height>50</height>", ""), "_1.xml has no <size/height>"),
        ("n01440764_1", GOOD[: GOOD.index("<object>")] + "</annotation>", "_1.xml has no <object>"),
        ("n01440764_1", "<annotation>", "_1.xml cannot be parsed"),
        ("n01440764_2", GOOD, "train/n01440764/n01440764_2.JPEG is missing"),
        ("n00000001_1", GOOD, "n00000001_1.xml is in a folder that is not one of ILSVRC-2012's 1000 synsets"),
    ],
)
def test_malformed_boxes_of_imagenet_are_named(tmp_path, file, text, message):
    images, boxes = imagenet_folder(tmp_path)
    path = boxes / "train" / file.split("_")[0] / f"{file}.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(DataError, match=message) as raised:
        read_imagenet_boxes(images, boxes, "train")
    assert len(str(raised.value).splitlines()) == 1
    (boxes / "val/ILSVRC2012_val_00050001.xml").write_text(GOOD)
    with pytest.raises(DataError, match="val_00050001.xml has no number of a validation image"):
        read_imagenet_boxes(images, boxes, "val")
    with pytest.raises(ValueError, match="no split 'test'; choose train or val"):
        read_imagenet_boxes(images, boxes, "test")
    with pytest.raises(DataError, match=r"holds no files <synset>/<name>.xml; unpack"):
        read_imagenet_boxes(images, tmp_path, "train")


# drawn shapes


def test_shapes_have_the_boxes_that_are_drawn():
    one = read_shape_boxes("test[:6]", (40, 60))
    check_whole(one)
    pictures = sources.find("shapes", "test[:6]", None, 32, (40, 40)).open()  # with sides from 40 to 60
    assert pictures.read(range(6)) == one.images.read(range(6))
    for row, index in enumerate(one.ids.tolist()):
        _, label, (top, left, bottom, right) = shape_drawing.draw_jpeg(index, (40, 60))
        assert one.boxes[row].tolist() == [[left, top, right, bottom]] and one.classes[row] == label


def test_several_shapes_on_an_image():
    split = read_shape_boxes("train[10:22]", (64, 96), most=4)
    check_whole(split)
    assert set((split.classes >= 0).sum(1).tolist()) == {1, 2, 3, 4}
    images = [decode.decode(record.data) for record in pickle.loads(pickle.dumps(split.images)).read(range(12))]
    for row, image in enumerate(images):
        boxes = split.boxes[row][split.classes[row] >= 0]
        assert (geometry.intersection(boxes, boxes) > 0).sum() == len(boxes)  # none overlap
        far = abs(image - np.median(image.reshape(-1, 3), 0)).mean(-1) > 45  # from the colour of the ground
        outside = np.ones(far.shape, bool)
        for x1, y1, x2, y2 in boxes.astype(int):
            outside[y1:y2, x1:x2] = False
            assert far[y1:y2, x1:x2].mean() > 0.1
        assert far[outside].mean() < 0.03, row
    with pytest.raises(ValueError, match="up to 5 shapes and sides from 40 to 60 pixels .* sides from 48 to 1024 are"):
        read_shape_boxes("train", (40, 60), most=5)
    with pytest.raises(ValueError, match="no split 'val'"):
        read_shape_boxes("val", (40, 60))

"""Boxes against torchvision, py-faster-rcnn and pycocotools, by hand, and against slow literal versions."""

import contextlib
import io
import json
import sys
import xml.etree.ElementTree as ET

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import real_data

from deepconv.boxes import anchors, average_precision, coco, codes, geometry, localization_error, merging, suppression
from deepconv.boxes.average_precision import Detections, Objects

UNIT = np.array([[0, 0, 10, 10]], np.float32)


@pytest.fixture(scope="module")
def torchvision():
    """What torchvision's operations give for random boxes."""
    return np.load(real_data("boxes") / "coco-layout" / "reference" / "torchvision_0.29.1_ops.npz")


def random_boxes(rng, *shape, side=100.0, size=(5.0, 60.0)):
    corner, extent = rng.uniform(0, side, (*shape, 2)), rng.uniform(*size, (*shape, 2))
    return np.concatenate([corner, corner + extent], -1).astype(np.float32)


def on_both(function, *boxes):
    """The result for NumPy's arrays, which a device must give, too."""
    result = function(*boxes)
    on_device = jax.jit(function)(*map(jnp.asarray, boxes))
    assert isinstance(result, np.ndarray) and isinstance(on_device, jax.Array)
    assert result.dtype == on_device.dtype == np.float32
    np.testing.assert_allclose(on_device, result, rtol=1e-5, atol=1e-4)
    return result


# geometry


def test_conventions_of_data_sets():
    voc = np.array([[1, 1, 1, 1], [10, 20, 30, 40]])  # one pixel at the top left; 21 x 21 pixels
    np.testing.assert_array_equal(geometry.from_voc(voc), [[0, 0, 1, 1], [9, 19, 30, 40]])
    np.testing.assert_array_equal(geometry.area(geometry.from_voc(voc)), [1, 21 * 21])
    np.testing.assert_array_equal(geometry.from_coco(np.array([[9, 19, 21, 5]])), [[9, 19, 30, 24]])
    boxes = random_boxes(np.random.default_rng(0), 20)
    for there, back in ((geometry.to_voc, geometry.from_voc), (geometry.to_coco, geometry.from_coco)):
        np.testing.assert_allclose(on_both(back, on_both(there, boxes)), boxes, rtol=1e-6)


def test_overlaps_by_hand():
    boxes = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [10, 0, 20, 10], [2, 3, 4, 5], [3, 3, 3, 3]], np.float32)
    np.testing.assert_array_equal(on_both(geometry.intersection, UNIT, boxes), [[50, 100, 0, 4, 0]])
    np.testing.assert_allclose(on_both(geometry.iou, UNIT, boxes), [[1 / 3, 1, 0, 0.04, 0]], rtol=1e-6)
    np.testing.assert_allclose(on_both(geometry.share_inside, boxes, UNIT[0]), [0.5, 1, 0, 1, 0])
    assert geometry.iou(boxes[4:], boxes[4:]) == 0  # not 0 / 0


def test_overlaps_are_torchvisions(torchvision):
    result = on_both(geometry.iou, torchvision["box_anchors"][:50], torchvision["box_targets"][:60])
    np.testing.assert_allclose(result, torchvision["box_iou"], atol=1e-6)


def test_batches_of_overlaps():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 3, 4), random_boxes(rng, 3, 5)
    batch = on_both(geometry.iou, a, b)
    np.testing.assert_array_equal(batch, [geometry.iou(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_array_equal(on_both(geometry.share_inside, a, b[:, 0])[1], geometry.share_inside(a[1], b[1, 0]))


def test_moves_by_hand():
    boxes = np.array([[-5, 2, 7, 30]], np.float32)
    np.testing.assert_array_equal(geometry.clip(boxes, 20, 6), [[0, 2, 6, 20]])
    np.testing.assert_array_equal(geometry.clip(boxes + 50, 20, 6), [[6, 20, 6, 20]])  # wholly outside: no area
    np.testing.assert_array_equal(geometry.mirror(boxes, 10), [[3, 2, 15, 30]])
    sides = np.array([20]), np.array([6])  # integers must not make the boxes float64
    assert geometry.clip(boxes, *sides).dtype == geometry.mirror(boxes, sides[1]).dtype == np.float32
    np.testing.assert_array_equal(geometry.translate(boxes, -2, -1), [[-7, 1, 5, 29]])
    np.testing.assert_array_equal(geometry.scale(boxes, 2, 0.5), [[-10, 1, 14, 15]])


def test_boxes_move_with_the_pixels():
    image = np.zeros((20, 30))
    image[4:9, 3:11] = 1
    x1, y1, x2, y2 = geometry.mirror(np.array([3, 4, 11, 9], np.float32), 30).astype(int)
    assert image[:, ::-1][y1:y2, x1:x2].all() and image.sum() == (y2 - y1) * (x2 - x1)


# codes


def test_codes_are_torchvisions(torchvision):
    encoded = on_both(codes.encode, torchvision["box_targets"], torchvision["box_anchors"])
    np.testing.assert_allclose(encoded, torchvision["box_codes"], rtol=1e-6, atol=1e-6)
    decoded = on_both(codes.decode, encoded, torchvision["box_anchors"])
    np.testing.assert_allclose(decoded, torchvision["box_decoded"], rtol=1e-5, atol=1e-3)


def test_codes_by_hand():
    box = np.array([[5, 0, 25, 10]], np.float32)  # center 15, 5 and size 20, 10; the anchor's are 5, 5 and 10, 10
    np.testing.assert_allclose(codes.encode(box, UNIT), [[1, 0, np.log(2), 0]], rtol=1e-6)
    np.testing.assert_allclose(codes.encode_in_crop(box, 20), [[0.25, -0.25, 1, 0.5]])


def test_largest_and_smallest_sizes():
    large = np.array([[0, 0, np.log(62.5), np.log(62)], [0, 1, 1000, 4.2], [0, 0, np.nan, 0]], np.float32)
    expected = [[-307.5, -305, 317.5, 315], [-307.5, -297.5, 317.5, 327.5], [np.nan, 0, np.nan, 10]]  # 625 at most
    np.testing.assert_allclose(on_both(codes.decode, large, UNIT), expected, rtol=1e-5)
    np.testing.assert_allclose(on_both(codes.decode, np.float32([[0, 0, -1000, -9]]), UNIT)[0, ::2], [5, 5])


def test_decoding_inverts_coding():
    rng = np.random.default_rng(0)
    boxes, priors = random_boxes(rng, 50), random_boxes(rng, 50)
    np.testing.assert_allclose(codes.decode(codes.encode(boxes, priors), priors), boxes, rtol=1e-4, atol=1e-4)
    there = on_both(lambda x: codes.encode_in_crop(x, 224), boxes)
    np.testing.assert_allclose(on_both(lambda x: codes.decode_in_crop(x, 224), there), boxes, rtol=1e-5, atol=1e-4)


# anchors

NINE = [  # Ren et al.'s, as MATLAB counts: from 1, ends inside; lib/rpn/generate_anchors.py of py-faster-rcnn has them
    *([-83, -39, 100, 56], [-175, -87, 192, 104], [-359, -183, 376, 200]),
    *([-55, -55, 72, 72], [-119, -119, 136, 136], [-247, -247, 264, 264]),
    *([-35, -79, 52, 96], [-79, -167, 96, 184], [-167, -343, 184, 360]),
]


def test_the_nine_anchors():
    np.testing.assert_array_equal(geometry.to_voc(anchors.cell()), NINE)


def test_anchors_of_localization():
    cell = anchors.cell(32, (64, 128, 256))
    np.testing.assert_array_equal((cell[:, :2] + cell[:, 2:]) / 2, np.full((9, 2), 16))
    np.testing.assert_array_equal(cell[3], [-16, -16, 48, 48])  # ratio 1
    areas, shapes = geometry.area(cell), (cell[:, 3] - cell[:, 1]) / (cell[:, 2] - cell[:, 0])
    np.testing.assert_allclose(areas, np.tile(np.square([64, 128, 256]), 3), rtol=0.04)  # of whole pixels
    np.testing.assert_allclose(shapes, np.repeat([0.5, 1, 2], 3), rtol=0.05)


def test_anchors_over_a_map():
    cell = anchors.cell()
    grid = anchors.over_map(cell, 3, 5, 16)
    assert grid.shape == (3, 5, 9, 4) and grid.dtype == np.float32
    np.testing.assert_array_equal(grid[0, 0], cell)
    np.testing.assert_array_equal(grid[2, 4, 6], geometry.translate(cell[6], 64, 32))


# suppression


def slow_nms(boxes, scores, classes, threshold):
    kept = []
    for best in sorted(range(len(scores)), key=lambda index: -scores[index]):
        same = [other for other in kept if classes[other] == classes[best]]
        if not same or geometry.iou(boxes[same], boxes[[best]]).max() <= threshold:
            kept.append(best)
    return kept


@pytest.mark.parametrize("threshold, key", [(0.7, "nms_keep_07"), (0.3, "nms_keep_03")])
def test_suppression_is_torchvisions(torchvision, threshold, key):
    boxes, scores, kept = torchvision["nms_boxes"], torchvision["nms_scores"], torchvision[key]
    result = np.array(suppression.nms(boxes, scores, threshold, outputs=1200))
    np.testing.assert_array_equal(result[: len(kept)], kept)
    assert (result[len(kept) :] == len(boxes)).all()


def test_suppression_per_class_in_batches():
    rng = np.random.default_rng(0)
    boxes, classes = random_boxes(rng, 3, 40, side=60), rng.integers(0, 3, (3, 40))
    scores = rng.choice(20, (3, 40)).astype(np.float32)  # with ties
    boxes[:, 30:], scores[:, 30:], classes[:, 30:] = 0, -np.inf, -1  # padding
    many = jax.vmap(lambda *image: suppression.nms_per_class(*image, 0.3, outputs=40))(boxes, scores, classes)
    for image in range(3):
        kept = slow_nms(boxes[image, :30], scores[image, :30], classes[image], 0.3)
        assert 10 < len(kept) < 30
        np.testing.assert_array_equal(many[image], kept + [40] * (40 - len(kept)))
        few = suppression.nms_per_class(boxes[image, :30], scores[image, :30], classes[image, :30], 0.3, outputs=7)
        np.testing.assert_array_equal(few, kept[:7])  # fewer outputs and no padding: the same


def test_suppression_at_the_threshold():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)  # IoU 0.5
    for threshold, expected in ((0.5, [1, 0]), (0.49, [1, 2])):
        np.testing.assert_array_equal(suppression.nms(boxes, np.array([1, 2], np.float32), threshold, 2), expected)


def test_suppression_of_odd_boxes():
    boxes, scores = np.array([[3, 3, 3, 3], [0, 0, 9, 9]], np.float32), np.array([2, 1], np.float32)
    np.testing.assert_array_equal(suppression.nms(boxes, scores, 0.5, 4), [0, 1, 2, 2])  # no area, but kept once
    padded = suppression.nms_per_class(boxes, scores, np.array([-1, 0]), 0.5, 4)
    np.testing.assert_array_equal(padded, [1, 2, 2, 2])  # class -1 is padding, whatever its score


def test_suppression_is_the_same_elsewhere_and_again():
    rng = np.random.default_rng(1)
    boxes, scores = random_boxes(rng, 40, side=60), rng.permutation(40).astype(np.float32)
    kept = np.array(suppression.nms(boxes, scores, 0.3, 40))
    moved = geometry.scale(geometry.mirror(boxes, 200), 4, 2)
    np.testing.assert_array_equal(suppression.nms(moved, 2 * scores - 7, 0.3, 40), kept)
    kept_boxes, kept_scores, kept_classes = suppression.take(kept, *map(jnp.asarray, (boxes, scores, scores * 0)))
    count = int((kept < 40).sum())
    assert (kept_scores[count:] == -jnp.inf).all() and (kept_classes[count:] == -1).all() and count < 40
    np.testing.assert_array_equal(kept_boxes[:count], boxes[kept[:count]])
    again = suppression.nms_per_class(kept_boxes, kept_scores, kept_classes, 0.3, 40)
    np.testing.assert_array_equal(again[:count], np.arange(count))
    assert (again[count:] == 40).all()


def test_votes_by_hand():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 5], [8, 0, 18, 10], [0, 0, 10, 10], [1, 2, 3, 4]])
    scores, classes = np.array([0.6, 0.3, 0.1, 0.5, 0.9, -np.inf]), np.array([0, 0, 0, 0, 1, -1])
    kept, kept_classes = jnp.array([0, 3, 4, 5]), jnp.array([0, 0, 1, -1])
    boxes = jnp.asarray(boxes, jnp.float32)
    voted = suppression.vote(boxes[kept], kept_classes, boxes, jnp.asarray(scores, jnp.float32), jnp.asarray(classes))
    expected = [[0.3, 0, 10.3, 9.5], [8, 0, 18, 10], [0, 0, 10, 10], [1, 2, 3, 4]]
    np.testing.assert_allclose(voted, expected, rtol=1e-6)  # an IoU of 0.5 is enough; the far box and class 1 are out


# merging


def slow_merge(boxes, scores, threshold):
    boxes, scores = list(boxes), list(scores)
    while len(boxes) > 1:
        pairs = [(i, j) for i in range(len(boxes)) for j in range(i + 1, len(boxes))]
        distance, i, j = min((1 - geometry.iou(boxes[i][None], boxes[j][None])[0, 0], i, j) for i, j in pairs)
        if distance > threshold:
            break
        boxes[i], scores[i] = (boxes[i] + boxes[j]) / 2, scores[i] + scores[j]
        del boxes[j], scores[j]
    return boxes, scores


def test_merging_is_greedy():
    rng = np.random.default_rng(0)
    boxes, scores = random_boxes(rng, 4, 12, side=30, size=(20, 50)), rng.random((4, 12)).astype(np.float32)
    boxes[0, 6:] = boxes[0, :6]  # equal pairs tie
    boxes[1] = boxes[1, :1]
    boxes[3, 8:], scores[3, 8:] = 0, -np.inf
    merged, sums = map(np.array, jax.jit(jax.vmap(merging.merge))(boxes, scores))
    for image, count in enumerate((12, 12, 12, 8)):
        left = sums[image] > -np.inf
        expected_boxes, expected_scores = slow_merge(boxes[image, :count], scores[image, :count], 0.5)
        np.testing.assert_allclose(merged[image][left], expected_boxes, rtol=1e-5)
        np.testing.assert_allclose(sums[image][left], expected_scores, rtol=1e-5)
        np.testing.assert_allclose(sums[image][left].sum(), scores[image, :count].sum(), rtol=1e-5)
        assert 1 <= left.sum() < count
    assert (sums[1] > -np.inf).sum() == 1


def test_merging_at_the_threshold():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)  # IoU 0.5
    scores = np.array([1, 2], np.float32)
    merged, sums = merging.merge(boxes, scores, 0.5)
    np.testing.assert_array_equal(merged[0], [0, 0, 10, 7.5])
    np.testing.assert_array_equal(sums, [3, -np.inf])
    np.testing.assert_array_equal(merging.merge(boxes, scores, 0.49)[1], scores)


# VOC's average precision


def voc_example():
    """30 photographs with objects, made-up detections, and what voc_eval.py of py-faster-rcnn says of them."""
    layout = real_data("boxes") / "voc-layout"
    names = (layout / "VOC2007/ImageSets/Main/trainval.txt").read_text().split()
    objects, found = [], json.loads((layout / "reference/detections_trainval.json").read_text())
    for image, name in enumerate(names):
        for item in ET.parse(layout / "VOC2007/Annotations" / f"{name}.xml").iter("object"):
            box = [int(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
            objects.append((image, item.findtext("name"), box, item.findtext("difficult") == "1"))
    classes = sorted({name for _, name, _, _ in objects} | {row["class"] for row in found})
    images, labels, boxes, difficult = map(list, zip(*objects, strict=True))
    truth = Objects(
        np.array(images),
        np.array([*map(classes.index, labels)]),
        geometry.from_voc(np.array(boxes)),
        np.array(difficult),
    )
    detections = Detections(
        np.array([names.index(row["image"]) for row in found]),
        np.array([classes.index(row["class"]) for row in found]),
        np.array([row["score"] for row in found]),
        geometry.from_voc(np.array([row["box"] for row in found])),
    )
    return detections, truth, classes, json.loads((layout / "reference/average_precision.json").read_text())


@pytest.mark.parametrize("measure", [average_precision.eleven_point, average_precision.area])
def test_average_precision_is_voc_evals(measure):
    detections, truth, classes, reference = voc_example()
    result = average_precision.average_precision(detections, truth, len(classes), measure)
    assert {classes[number] for number in np.flatnonzero(~np.isnan(result))} == reference["classes"].keys()
    for name, expected in reference["classes"].items():
        assert abs(result[classes.index(name)] / 100 - expected[measure.__name__]) < 1e-9, name
    assert abs(np.nanmean(result) / 100 - reference["mean"][measure.__name__]) < 1e-9


def test_average_precision_by_hand():
    truth = Objects(  # of class 1, without any of class 0 or 2; the last is padding
        np.array([0, 0, 1, 1, 5]),
        np.array([1, 1, 1, 1, -1]),
        np.array([[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 0, 0]], np.float32),
        np.array([False, False, False, True, False]),
    )
    rows = [  # image, class, score, box
        (0, 1, 0.9, [0, 0, 10, 5]),  # right: an IoU of 0.5 is enough
        (0, 1, 0.8, [0, 0, 10, 10]),  # wrong: a better one has the object, although this one fits
        (1, 1, 0.7, [20, 0, 30, 10]),  # difficult: does not count
        (1, 1, 0.6, [20, 0, 30, 10]),  # nor does another one
        (1, 1, 0.5, [0, 0, 10, 10]),  # right
        (2, 1, 0.4, [0, 0, 10, 10]),  # wrong: nothing is on that image
        (0, 2, 0.9, [0, 0, 10, 10]),  # of a class without objects
        (5, -1, -np.inf, [0, 0, 0, 0]),  # padding
    ]
    order = [3, 0, 7, 5, 1, 4, 2, 6]
    images, classes, scores, boxes = zip(*[rows[row] for row in order], strict=True)
    detections = Detections(np.array(images), np.array(classes), np.array(scores), np.array(boxes, np.float32))
    # precisions 1, 1/2, 1/2, 1/2, 2/3, 1/2 at recalls 1/3, 1/3, 1/3, 1/3, 2/3, 2/3
    for measure, expected in (
        (average_precision.area, (1 + 2 / 3) / 3),
        (average_precision.eleven_point, (4 * 1 + 3 * 2 / 3) / 11),
    ):
        result = average_precision.average_precision(detections, truth, 3, measure)
        np.testing.assert_allclose(result, [np.nan, 100 * expected, np.nan], rtol=1e-12)


def test_average_precision_of_nothing():
    none = np.zeros(0)
    nothing = Detections(none.astype(int), none.astype(int), none, np.zeros((0, 4), np.float32))
    one = Objects(np.array([0]), np.array([0]), UNIT, np.array([False]))
    no_objects = Objects(none.astype(int), none.astype(int), np.zeros((0, 4), np.float32), none.astype(bool))
    found = Detections(np.array([0]), np.array([0]), np.ones(1), UNIT)
    for measure in (average_precision.area, average_precision.eleven_point):
        assert average_precision.average_precision(nothing, one, 1, measure) == [0]
        assert np.isnan(average_precision.average_precision(found, no_objects, 1, measure)).all()
        assert average_precision.average_precision(found, one, 1, measure) == pytest.approx([100])


# COCO


def as_detections(annotations, rows):
    """Detections of COCO's result format."""
    categories = sorted(category["id"] for category in annotations["categories"])
    return Detections(
        np.array([row["image_id"] for row in rows], int),
        np.array([categories.index(row["category_id"]) for row in rows], int),
        np.array([row["score"] for row in rows]),
        geometry.from_coco(np.array([row["bbox"] for row in rows]).reshape(-1, 4)),
    )


def test_coco_metrics_are_the_stored_ones():
    layout = real_data("boxes") / "coco-layout"
    annotations = json.loads((layout / "annotations/instances_val2017.json").read_text())
    rows = json.loads((layout / "reference/detections_val2017.json").read_text())
    before = json.dumps(annotations)
    result = coco.evaluate(annotations, as_detections(annotations, rows))
    assert json.dumps(annotations) == before
    for name, expected in json.loads((layout / "reference/average_precision.json").read_text())["stats"].items():
        assert abs(result[name] / 100 - expected) < 1e-9, name


def random_annotations(rng, images=12):
    """Objects of three of four categories, with crowds and several sizes, and detections near them and elsewhere."""
    categories = [3, 1, 90, 7]
    annotations, rows = [], []
    for image in range(1, images + 1):
        for _ in range(rng.integers(0, 9)):
            box = [*rng.integers(0, 200, 2).tolist(), *rng.integers(8, 150, 2).tolist()]
            category, crowd = int(rng.choice(categories[:3])), int(rng.random() < 0.2)
            area = box[2] * box[3] * rng.uniform(0.4, 1.0)  # of the outline
            annotations.append({"image_id": image, "category_id": category, "bbox": box, "area": area})
            annotations[-1] |= {"iscrowd": crowd, "id": len(annotations) + 10}
            for _ in range(rng.integers(0, 30 if image > 1 else 150)):  # more than 100 of a class on the first
                guess = int(rng.choice(categories)) if rng.random() < 0.3 else category
                near = np.array(box) + rng.integers(-8, 9, 4) * [1, 1, 0.5, 0.5]
                score = int(rng.integers(0, 20)) / 20  # ties
                rows.append({"image_id": image, "category_id": guess, "bbox": near.tolist(), "score": score})
    return {
        "images": [{"id": image, "height": 400, "width": 400} for image in range(1, images + 1)],
        "categories": [{"id": number, "name": str(number)} for number in categories],
        "annotations": annotations,
    }, rows


def test_coco_metrics_are_pycocotools():
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, rows = random_annotations(np.random.default_rng(3))
    result = coco.evaluate(annotations, as_detections(annotations, rows))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = annotations
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    np.testing.assert_allclose([result[name] / 100 for name in coco.METRICS], evaluation.stats, rtol=0, atol=1e-9)
    assert 0.1 < evaluation.stats[0] < 0.9


def test_coco_metrics_of_little():
    annotations = {
        "images": [{"id": 5}],
        "categories": [{"id": 2}, {"id": 1}],
        "annotations": [{"image_id": 5, "category_id": 2, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0, "id": 0}],
    }
    result = coco.evaluate(annotations, as_detections(annotations, []))
    assert result["AP"] == 0 and np.isnan(result["AP_large"])
    padded = Detections(np.array([5, 0]), np.array([1, -1]), np.array([0.5, -np.inf]), np.repeat(UNIT, 2, 0))
    assert coco.results(annotations, padded) == [
        {"image_id": 5, "category_id": 2, "bbox": [0.0, 0.0, 10.0, 10.0], "score": 0.5}
    ]
    result = coco.evaluate(annotations, padded)
    assert result["AP"] == pytest.approx(100) and result["AP_small"] == pytest.approx(100)
    one = np.ones(1)
    with pytest.raises(ValueError, match="class 2; the annotations have classes 0 to 1"):
        coco.results(annotations, Detections(np.array([5]), np.array([2]), one, UNIT))
    with pytest.raises(ValueError, match="image 6, which is not among the 1 images"):
        coco.results(annotations, Detections(np.array([6]), np.array([1]), one, UNIT))


def test_coco_metrics_without_their_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ValueError, match=r"pip install 'deepconv\[boxes\]'$"):
        coco.evaluate({}, as_detections({"categories": []}, []))


# ILSVRC's error


def test_localization_error_by_hand():
    whole, half, less = [0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 4.9]  # IoU 1, 0.5 and 0.49
    far, padding = [50, 50, 60, 60], [0, 0, 0, 0]
    table = [  # classes and boxes of two guesses; the image's classes and boxes; right, counted
        ([3, 4], [whole, far], [3, -1], [whole, padding], True, True),
        ([3, 4], [half, far], [3, -1], [whole, padding], True, True),
        ([3, 4], [less, far], [3, -1], [whole, padding], False, True),
        ([4, 3], [far, whole], [3, 3], [far, whole], True, True),  # the second guess, any of two boxes
        ([4, 5], [whole, whole], [3, -1], [whole, padding], False, True),  # the box without the class
        ([3, 4], [far, whole], [3, -1], [whole, padding], False, True),  # of the other guess
        ([3, 4], [far, whole], [3, 4], [whole, far], False, True),  # two classes, exchanged
        ([-1, -1], [far, far], [3, -1], [whole, far], False, True),  # padding finds nothing
        ([3, 4], [far, far], [3, -1], [whole, padding], False, False),  # blacklisted
    ]
    classes, boxes, true_classes, true_boxes, right, counted = map(np.array, zip(*table, strict=True))
    arguments = true_classes, true_boxes, counted
    assert localization_error.localization_error(classes, boxes, *arguments) == pytest.approx(100 * 5 / 8)
    for image in range(len(table)):
        alone = np.arange(len(table)) == image
        result = localization_error.localization_error(classes, boxes, true_classes, true_boxes, alone)
        assert result == (0 if right[image] else 100), image
    alone = true_classes[:, 0], boxes[:, 0]  # the first boxes as if made for the true classes: four of eight fit
    assert localization_error.error_of_true_class(*alone, *arguments) == pytest.approx(100 * 4 / 8)
    with pytest.raises(ValueError, match="6 guesses per image; ILSVRC allows 5"):
        localization_error.localization_error(np.tile(classes, 3), np.tile(boxes, (1, 3, 1)), *arguments)
    with pytest.raises(ValueError, match="none of 9 images counts"):
        localization_error.localization_error(classes, boxes, true_classes, true_boxes, ~np.ones(9, bool))


def test_localization_counts_whole_pixels():
    """An IoU of exactly 0.5 with both ends inside: 10 x 10 and 10 x 5 pixels."""
    true, guess = (geometry.from_voc(np.array([[[1, 1, 10, bottom]]])) for bottom in (10, 5))
    label = np.zeros((1, 1), int)
    assert localization_error.localization_error(label, guess, label, true, np.ones(1, bool)) == 0


def test_blacklist(tmp_path):
    path = tmp_path / "blacklist.txt"
    path.write_text("36\n50\n")
    counted = localization_error.not_blacklisted(path, np.array([35, 36, 50, 51]))
    np.testing.assert_array_equal(counted, [True, False, False, True])
    for line in ("0", "50001", "n01440764"):
        path.write_text(f"36\n{line}\n")
        with pytest.raises(ValueError, match=f"'{line}' is not the number of a validation image, 1 to 50000"):
            localization_error.not_blacklisted(path, np.array([35]))

"""COCO's average precision and recall. Needs faster-coco-eval: pip install 'deepconv[boxes]'."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepconv.boxes import geometry
from deepconv.boxes.average_precision import Detections

METRICS = (
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
)


def evaluate(annotations: Mapping[str, Any], detections: Detections) -> dict[str, float]:
    """Returns COCO's twelve METRICS in percent, over all images of annotations; NaN where no object is of that size.

    annotations is the content of an instances_*.json; detections are as in `results`. Raises ValueError for an unknown
    image or class, or without faster-coco-eval.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ModuleNotFoundError as error:
        raise ValueError("COCO's metrics need faster-coco-eval; pip install 'deepconv[boxes]'") from error
    keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
    slim = {  # without outlines, and numbered from 1: faster-coco-eval writes into what it gets and takes 0 for "none"
        "images": [{"id": image["id"]} for image in annotations["images"]],
        "categories": [{"id": category["id"]} for category in annotations["categories"]],
        "annotations": [
            {key: annotation[key] for key in keys} | {"id": number}
            for number, annotation in enumerate(annotations["annotations"], 1)
        ],
    }
    found = results(annotations, detections)
    truth = COCO(slim)
    evaluation = COCOeval_faster(truth, truth.loadRes(found), "bbox")
    evaluation.run()
    return {name: 100 * float(x) if x >= 0 else np.nan for name, x in zip(METRICS, evaluation.stats, strict=True)}


def results(annotations: Mapping[str, Any], detections: Detections) -> list[dict[str, Any]]:
    """Returns detections as COCO's result format has them, for its server, too; padding is left out.

    Images are numbered by COCO's image ids, classes by the place of their category among all, sorted by id.
    """
    categories = sorted(category["id"] for category in annotations["categories"])
    if len(wrong := detections.classes[(detections.classes < -1) | (detections.classes >= len(categories))]):
        raise ValueError(f"a detection has class {wrong[0]}; the annotations have classes 0 to {len(categories) - 1}")
    real = detections.classes >= 0
    images = detections.images[real]
    known = np.array([image["id"] for image in annotations["images"]], int)
    if len(wrong := images[~np.isin(images, known)]):
        raise ValueError(f"a detection is on image {wrong[0]}, which is not among the {len(known)} images annotated")
    boxes = geometry.to_coco(detections.boxes[real].astype(np.float64))
    rows = zip(images, detections.classes[real], boxes.tolist(), detections.scores[real], strict=True)
    return [
        {"image_id": int(image), "category_id": categories[number], "bbox": box, "score": float(score)}
        for image, number, box, score in rows
    ]

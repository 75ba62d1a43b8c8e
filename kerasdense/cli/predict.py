"""Predicts label maps, boxes or labels of images with a fitted or exported model.

    kerasdense predict --run runs/camvid photo.jpg folder/ --output predictions
    kerasdense predict --saved-model saved_models/ssd300 MOT15/train/TUD-Campus --output predictions

A segmentation model writes for each image NAME.png, a palette PNG whose pixel values are class
ids, and NAME_overlay.png with its legend; once: legend.png. A detection model writes
NAME_boxes.jpg, showing what scores at least --score, and of all images together, whatever the
score, VOC's result files voc/comp4_det_test_CLASS.txt and MOT's mot/det.txt (det_CLASS.txt if there
are several classes). Frames have the numbers of their files if all names are numbers, else they are
counted. A classifier writes NAME_labels.jpg, and labels.json with all probabilities.

NAME is that of the file, in a folder the path below it (sub/a), and NAME_2 where one is taken.
Images that cannot be read are named and skipped; the exit status is then 1.

--cityscapes-ids also writes what the Cityscapes server takes, for frames that are called
CITY_123456_123456_leftImg8bit.png and a model of the 19 classes:
cityscapes_ids/CITY_123456_123456_pred.png, all in one folder, gray, 2048x1024, label ids (7 road
to 33 bicycle, not train ids). Frames of other sizes must be twice as wide as high, too; their label
ids are resized. A model fitted to cityscapes/ladder sees of a frame what it was fitted to: rows 30
to 900 of 1024, resized to 1024x448, the ego vehicle painted over where the frame's label map tells
it (gtFine/ beside leftImg8bit/, of the test split, too). Its label map is put back by nearest
neighbor. The other rows have no class: 255 in NAME.png, 0 (unlabeled) in the label ids, which the
server counts as missed where its truth has a class. Without this option, and of models fitted to
other datasets, pictures are predicted as they are.
"""

import errno
import sys
from pathlib import Path

from kerasdense.cli.arguments import (
    AUTO_HELP,
    CHECKPOINTS,
    COMPUTING,
    add_checkpoint,
    add_run,
    positive,
)


def add_arguments(parser):
    model = parser.add_mutually_exclusive_group(required=True)
    add_run(model, required=False)
    model.add_argument(
        "--saved-model",
        type=Path,
        metavar="EXPORT",
        help="an export of any format: NAME (newest version) or NAME/VERSION",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE|FOLDER", help="what is predicted"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--score", type=float, default=0.5, help="of the boxes or labels that are drawn, at least"
    )
    parser.add_argument(
        "--precision",
        choices=COMPUTING,
        help=f"what the network computes in; {AUTO_HELP} (default: float32 of a run; of an export "
        "its own)",
    )
    parser.add_argument(
        "--threads",
        type=positive(int),
        metavar="N",
        help="that compute, at most (default: as many as there are cores)",
    )
    parser.add_argument(
        "--cityscapes-ids", action="store_true", help="also what the Cityscapes server takes"
    )


def run(arguments):
    from kerasdense.data import cityscapes_frames
    from kerasdense.data.images import find_named_images
    from kerasdense.drawing import pictures

    if arguments.saved_model and arguments.checkpoint != CHECKPOINTS[0]:
        raise ValueError(
            f"--checkpoint {arguments.checkpoint} is of a run, received --saved-model, which holds "
            f"one model alone. Give the --run."
        )
    images = find_named_images(arguments.images, arguments.output)
    if arguments.cityscapes_ids:
        cityscapes_frames.check_names(images)
    load = _exported if arguments.saved_model else _fitted
    predict, task, dataset = load(arguments)
    if arguments.cityscapes_ids:
        protocol = cityscapes_frames.protocol_of(dataset)
        writer = task.cityscapes_writer(arguments.output, protocol)
        print(_of_protocol(protocol, dataset, images))
    else:
        arguments.output.mkdir(parents=True, exist_ok=True)
        writer = task.writer(arguments.output, arguments.score)

    def predicted(path):
        seen = picture = pictures.load_picture(path)
        if arguments.cityscapes_ids:
            seen = cityscapes_frames.seen(path, picture, protocol)
        return picture, {name: value[0] for name, value in predict(seen[None]).items()}, ""

    return predict_all(images, predicted, writer)


def predict_all(images, predicted, writer):
    """Predicts and writes image after image, with a line about each; the exit status.

    Args:
        images: of `data.images.Found`.
        predicted: `(path) -> picture, outputs, note`: as `add` of the writer takes them, and what
            the line adds; ValueError for an image to skip.
        writer: of a task.
    """
    failed = 0
    for number, image in enumerate(images, 1):
        counter = f"[{number}/{len(images)}]"
        try:
            picture, outputs, note = predicted(image.path)
            line = writer.add(image, picture, outputs)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                raise  # it concerns them all, as a full disk does
            text = " ".join(str(error).split())
            print(f"{counter} skipped {image.path}: {text}", file=sys.stderr)
            failed += 1
            continue
        print(f"{counter} {image.path} -> {line}{note}")
    writer.finish(images)
    print(f"{len(images) - failed} of {len(images)} images predicted into {writer.output}")
    if failed:
        print(f"{failed} could not be predicted, see above", file=sys.stderr)
    return 1 if failed else 0


def _of_protocol(protocol, dataset, images):
    """What a model that was fitted to `dataset` sees of frames, and what becomes of the rest."""
    from kerasdense.data import cityscapes_frames

    fitted = f"The model was fitted to {dataset or 'an unknown dataset'}"
    if protocol is cityscapes_frames.FULL:
        return f"{fitted}: frames are predicted as they are."
    (top, bottom), (height, width) = protocol.rows, protocol.size
    known = sum(cityscapes_frames.truth_of(image.path) is not None for image in images)
    return (
        f"{fitted}: it sees rows {top} to {bottom} of each frame, at {width}x{height}; the others "
        f"are written as unlabeled, which the server counts as missed where its truth has a class. "
        f"The ego vehicle is painted over in {known} of {len(images)} frames, those with a label "
        f"map in gtFine/."
    )


def _exported(arguments):
    """A function from pictures [B, H, W, 3] to outputs, the task, and the name of the dataset.

    The dataset is that of the training, None if unknown; Keras is not needed.
    """
    from kerasdense import tasks
    from kerasdense.export.predictor import Predictor, filled_up
    from kerasdense.tasks.base import reason

    served = Predictor(arguments.saved_model, arguments.precision, arguments.threads)
    if arguments.precision == "auto":
        print(f"precision {served.precision}: {served.reason}")

    def predict(images):
        try:
            return filled_up(served.predict, images, served.facts["input"]["batch_size"])
        except ValueError:
            raise  # it does not take such images, and says so
        except Exception as error:  # each runtime has its own
            raise ValueError(f"The {served.format} model fails on it: {reason(error)}") from error

    run = served.facts.get("run") or {}
    dataset = (run.get("dataset") or {}).get("name")
    return predict, tasks.named(served.task)(served.class_names, served.palette), dataset


def _fitted(arguments):
    """As `_exported`, of a run."""
    import tensorflow as tf

    from kerasdense import tasks
    from kerasdense.export import predictor
    from kerasdense.export.signatures import Form, serve
    from kerasdense.tasks.base import reason
    from kerasdense.training import devices, run_folder

    if arguments.threads:
        predictor.limit_threads(tf, arguments.threads)
    model, facts = run_folder.load_run(arguments.run, f"{arguments.checkpoint}.keras")
    task = tasks.of_run(facts)
    precision = devices.computing(arguments.precision or "float32")
    # What the SavedModel holds, so that both ways agree.
    served = serve(model, task, Form(precision=precision))

    def predict(images):
        try:
            outputs = served.serving_default(tf.constant(images))
        except tf.errors.OpError as error:
            raise ValueError(f"{reason(error)}.") from error
        return {name: value.numpy() for name, value in outputs.items()}

    return predict, task, facts["dataset"].get("name")

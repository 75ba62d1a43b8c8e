"""Measures models, pipelines and metrics on this machine, beside alternatives, in turns in one run.

    kerasdense benchmark cost                       # the paper's three DenseNets at 1024x448
    kerasdense benchmark train --models fcn_resnet50:output_stride=8 ssd300 --batch-sizes 1,4
    kerasdense benchmark infer --models ladder_densenet121 --backends tensorflow,jax --xla off,on
    kerasdense benchmark peers --size 224x224       # torchvision and KerasHub, where installed
    kerasdense benchmark data --dataset camvid --source CamVid --size 240x320
    kerasdense benchmark data --dataset folder_detection --source BCCD --detection
    kerasdense benchmark evaluation
    kerasdense benchmark export --run runs/camvid --size 360x480
    kerasdense benchmark attack --run runs/camvid --size 240x320
    kerasdense benchmark formats

All start with turns that do not count, and print medians of the turns; all but `formats` end with
one JSON line. The column "1st / this" is the first row's time over this row's, the median over the
turns. Models of `cost`, `train`, `infer` and `peers` run each in a process of its own, on the
backend that KERAS_BACKEND names unless --backends does; with JAX they need no TensorFlow. The exit
status is 1 if a row could not be measured.
"""

import inspect

from kerasdense.cli.arguments import (
    PRECISIONS,
    Formatter,
    add_dataset,
    add_run,
    counts,
    model_option,
    numbers,
    positive,
    size,
    sizes,
    some_of,
)
from kerasdense.cli.export import FORMATS
from kerasdense.cli.export import PRECISIONS as EXPORT_PRECISIONS

# Of Kreso et al., 2017: DenseNet 32x, Dilated 8x DenseNet 4x, LadderDenseNet 4x.
PAPER = (
    "ladder_densenet121:prediction_stride=32",
    "ladder_densenet121:output_stride=8",
    "ladder_densenet121",
)
EXPORTED = (
    "fcn_vgg16:skips=16,8",
    "fcn_resnet50:skips=16,8",
    "fcn_resnet50:output_stride=16:skips=8",
    "fcn_resnet50:output_stride=8",
    "atrous_fcn_resnet50",
    *reversed(PAPER),
    "ssd300",
    "ssd512",
    "densenet121_classifier",
)
# Small models that stand for their kind where `data` trains none.
SEGMENTER, DETECTOR = "ladder_densenet:blocks=1,1,1,1", "ssd300:width=0.02"


def model(text):
    """Parses `NAME[:OPTION=VALUE...]`, such as `fcn_vgg16:skips=16,8`, into a `NamedModel`."""
    from kerasdense.benchmarks.workloads import NamedModel

    name, *options = text.split(":")
    return NamedModel(text, name, dict(map(model_option, options)))


def add_arguments(parser):
    benchmarks = parser.add_subparsers(required=True, metavar="WHAT")

    def add(name, function, help):
        parser = benchmarks.add_parser(
            name, help=help, description=inspect.getdoc(function), formatter_class=Formatter
        )
        parser.set_defaults(benchmark=function)
        return parser

    _add_cost(add("cost", cost, "parameters, multiply-adds, memory"))
    _add_grid(add("train", train, "a grid of models that train"))
    _add_grid(add("infer", infer, "a grid of models that predict"))
    _add_peers(add("peers", peers, "models beside those of torchvision and KerasHub"))
    _add_data(add("data", data, "a training pipeline beside bare decoding"))
    _add_evaluation(add("evaluation", evaluation, "average precision, mean IoU"))
    _add_export(add("export", export, "a model's exports beside the Keras model"))
    _add_attack(add("attack", attack, "attacks and adversarial training beside passes"))
    _add_formats(add("formats", formats, "which runtime takes which model"))


def run(arguments):
    return arguments.benchmark(arguments)


def cost(arguments):
    """Parameters, multiply-adds and activation memory, counted; and a training step, measured."""
    from kerasdense.benchmarks.steps import benchmark_cost

    return benchmark_cost(
        arguments.models,
        arguments.size,
        arguments.batch_size,
        arguments.classes,
        *_policies([arguments.precision]),
        None if arguments.counted_only else _schedule(arguments),
    )


def train(arguments):
    """Training steps of every model, size, batch size, precision, XLA and backend asked for.

    Milliseconds, images/s, the time to the first step and peak memory.
    """
    return _grid("train", arguments)


def infer(arguments):
    """Forward passes of every model, size, batch size, precision, XLA and backend asked for.

    Milliseconds, images/s, the time to the first pass and peak memory.
    """
    return _grid("infer", arguments)


def peers(arguments):
    """The same work by others, each in all ways to run it and in each precision.

    FCN on a ResNet-50 of output stride 8 and SSD300 (torchvision: eager, channels_last and by
    torch.compile, half precision by autocast), and, of a strided ResNet-50, another network for the
    same task (KerasHub's DeepLabV3+). To infer, ours are exports that Predictor opens; on JAX and
    on GPUs, and to train, the Keras model. SSD300 is also measured with its boxes.

    The column "of theirs" is a row's time over that of their fastest in its precision, the median
    over the turns: 0.65 if we take 0.65 of their time. The exit status is 1 if one of ours could
    not be measured, or none of theirs.
    """
    from kerasdense.benchmarks.steps import benchmark_peers

    return benchmark_peers(
        arguments.works,
        arguments.size,
        arguments.batch_size,
        arguments.precisions,
        _schedule(arguments),
    )


def data(arguments):
    """Images/s of the training pipeline beside bare decoding of the same pictures.

    A model of a fixed size, as SSD300 has it, takes SSD's augmentation in full, matching and target
    encoding; the others' pipeline decodes, scales, crops, flips (or encodes labels) and batches.
    With --model also which part of its training step waits for data, and what the pipeline beside
    it costs a step.
    """
    from kerasdense.benchmarks import data
    from kerasdense.data import datasets

    named = arguments.model or model(DETECTOR if arguments.detection else SEGMENTER)
    builder = datasets.load(
        arguments.dataset, arguments.source, arguments.prepared_dir, arguments.mask_values
    )
    network = data.model_for(named, builder)
    if arguments.detection and network.input.shape[1] is None:
        raise ValueError(f"--model {named}: expected ssd300 or ssd512 with --detection.")
    augment = data.augmentation(network, arguments.size, arguments.scales, arguments.photometric)
    data.benchmark(
        data.reading_for(network, builder, arguments.batch_size, augment),
        arguments.images,
        arguments.turns,
        network if arguments.model else None,
        arguments.steps,
    )


def evaluation(arguments):
    """Seconds of the average precision of many detections, and what mean IoU adds to a pass."""
    from kerasdense.benchmarks.evaluation import benchmark

    benchmark(arguments.model, arguments.size, arguments.classes, arguments.images, arguments.turns)


def export(arguments):
    """Milliseconds, size and accuracy of a model's exports, beside the Keras model.

    All answer what serving_default does: label maps, boxes or probabilities of a batch of uint8
    pictures, which a detector warps to its own size. Each format and precision asked for is a row;
    what a format refuses is told with the reason: LiteRT in int8, for one, takes one of
    --batch-sizes alone. Of a --run the accuracy is measured, too, on its validation split or the
    first --images of it, and int8 is fitted to its training split.
    """
    from kerasdense.benchmarks.export import benchmark
    from kerasdense.export.signatures import Form

    model, task = _loaded(arguments)
    forms = [
        Form(format, precision)
        for format in arguments.formats
        for precision in arguments.precisions
    ]
    truth = _truth(arguments) if arguments.run else None
    benchmark(model, task, forms, arguments.size, arguments.batch_sizes, arguments.turns, truth)


def _truth(arguments):
    """What the accuracy of exports is measured on; None where it cannot be read, which is told."""
    from kerasdense.benchmarks.export import Truth
    from kerasdense.training import run_folder

    facts = run_folder.read_run(arguments.run)
    if not facts["dataset"].get("name"):
        print("No accuracy is measured: the run was fitted on no dataset of ours.")
        return None
    try:
        builder, _ = run_folder.load_dataset(facts, None, arguments.source, arguments.prepared_dir)
    except (ValueError, OSError) as error:
        print(f"No accuracy is measured: {error}")
        return None
    return Truth(
        builder,
        run_folder.validation_split(facts),
        run_folder.training_split(facts),
        arguments.images,
    )


def attack(arguments):
    """Milliseconds of an attack (PGD) on one image beside as many bare passes.

    They go forward and backward to the image, of the same segmentation model. Then those of a
    training step on two images with --adversarial-steps 1 and 3 beside one without.
    """
    from kerasdense.benchmarks.attack import benchmark

    benchmark(*_loaded(arguments), arguments.size, arguments.steps, arguments.turns)


def formats(arguments):
    """Prints which runtime takes which model, and how well: the table of saved_models/README.md.

    Every model, with random weights, is exported in every format and precision, loaded by
    Predictor, and compared with the Keras model in float32 on two smooth pictures. A cell is

        ok 1.3x         the outputs agree up to rounding, and a call takes 1/1.3 of the time of the
                        Keras model as a compiled graph
        refused: ...    there is no such export, and why
        FAILS: ...      the export or the runtime fails, or its outputs differ
        not installed   the packages of the format are missing

    int8 is fitted to these pictures, of fixed size. The whole table takes over half an hour on two
    cores, with --precisions float32,float16,bfloat16,int8 two hours, and some 12 GB of memory. The
    exit status is 1 if a cell fails.
    """
    from kerasdense.benchmarks.formats import benchmark

    return benchmark(arguments.models, arguments.formats, arguments.precisions, arguments.turns)


def _schedule(arguments):
    from kerasdense.benchmarks.processes import Schedule

    return Schedule(arguments.turns, arguments.steps, arguments.alone)


def _grid(work, arguments):
    from kerasdense.benchmarks.steps import Grid, benchmark_grid

    grid = Grid(
        work,
        arguments.models,
        arguments.sizes,
        arguments.batch_sizes,
        arguments.classes,
        _policies(arguments.precisions),
        arguments.xla,
        arguments.backends,
    )
    return benchmark_grid(grid, _schedule(arguments))


def _policies(precisions):
    """The dtype policies of Keras, of which "auto" is that of this process' backend and device."""
    if "auto" not in precisions:
        return precisions
    from kerasdense.training import devices

    return tuple(dict.fromkeys(map(devices.policy, precisions)))


def _loaded(arguments):
    """The model of --run or --model, and its task."""
    from kerasdense import tasks

    if arguments.run:
        from kerasdense.training import run_folder

        network, facts = run_folder.load_run(arguments.run)
        return network, tasks.of_run(facts)
    from kerasdense.benchmarks.workloads import random_model

    try:
        network = random_model(arguments.model, arguments.classes)
    except ValueError as error:
        raise ValueError(f"{error} Or give a run folder as --run.") from error
    return network, tasks.of_model(network)


def _add_cost(parser):
    _add_models(parser, PAPER)
    _add_size(parser, (448, 1024))
    _add_classes(parser)
    _add_count(parser, "--batch-size", 1, "images of a training step")
    _add_choice(parser, "--precision", PRECISIONS, "of the training steps: a dtype policy of Keras")
    parser.add_argument("--counted-only", action="store_true", help="do not run training steps")
    parser.set_defaults(steps=1)
    _add_turns(parser, 3)


def _add_grid(parser):
    from kerasdense.benchmarks.workloads import BACKENDS, backend

    _add_models(parser, (*PAPER, "ldn121"))
    parser.add_argument(
        "--sizes",
        type=sizes,
        default=((448, 1024),),
        metavar="HxW,HxW",
        help="of the images, in pixels; an SSD has its own",
    )
    _add_classes(parser)
    _add_batch_sizes(parser, (1,))
    _add_some(parser, "--precisions", PRECISIONS, "dtype policies of Keras")
    _add_some(parser, "--xla", ("off", "on"), "whether TensorFlow compiles; JAX always does")
    _add_some(parser, "--backends", BACKENDS, "of Keras, to run the models on")
    parser.set_defaults(backends=(backend(),))
    _add_steps(parser)
    _add_turns(parser, 5)


def _add_peers(parser):
    _add_some(parser, "--works", ("infer", "train"), "what is measured")
    _add_size(parser, (224, 224))
    _add_count(parser, "--batch-size", 1, "images of a step")
    # torch's autocast to float16 needs a loss scale
    precisions = ("float32", "mixed_bfloat16")
    _add_some(parser, "--precisions", precisions, "dtype policies of Keras, of all models")
    parser.set_defaults(precisions=precisions)
    _add_steps(parser)
    _add_turns(parser, 10)


def _add_data(parser):
    parser.add_argument(
        "--detection",
        action="store_true",
        help="boxes for SSD300, not masks (a --model decides itself)",
    )
    add_dataset(parser)
    _add_size(parser, (240, 320))
    parser.add_argument(
        "--scales",
        type=numbers,
        default=(0.5, 2.0),
        metavar="LOWEST,HIGHEST",
        help="range of the random scale of the training crops",
    )
    parser.add_argument("--photometric", action="store_true", help="jitter the colors, too")
    _add_count(parser, "--batch-size", 8, "images of a batch")
    _add_count(parser, "--images", 2000, "images that a turn reads")
    parser.add_argument(
        "--model",
        type=model,
        metavar="MODEL",
        help="NAME[:OPTION=VALUE...], to be fed, and to say what it reads (default: none)",
    )
    _add_count(parser, "--steps", 10, "training steps of --model in a turn")
    _add_count(parser, "--turns", 5, "turns that count")


def _add_evaluation(parser):
    parser.add_argument(
        "--model",
        type=model,
        default=model("atrous_fcn_resnet50"),
        metavar="MODEL",
        help="NAME[:OPTION=VALUE...] of the pass",
    )
    _add_size(parser, (360, 480))
    _add_classes(parser)
    _add_count(parser, "--images", 5000, "images with detections, for average precision")
    _add_count(parser, "--turns", 5, "turns that count")


def _add_export(parser):
    _add_run_or_model(parser)
    _add_formats_and_precisions(parser)
    _add_batch_sizes(parser, (1, 8))
    _add_count(parser, "--turns", 10, "turns that count")
    parser.add_argument(
        "--images",
        type=positive(int),
        metavar="N",
        help="of the validation split of a --run, whose accuracy is measured (default: all)",
    )
    parser.add_argument("--source", help="the folder of its dataset (default: the run's own)")
    parser.add_argument(
        "--prepared-dir", help="where its prepared form is kept (default: the run's own)"
    )


def _add_attack(parser):
    _add_run_or_model(parser)
    _add_count(parser, "--steps", 100, "steps of the attack")
    _add_count(parser, "--turns", 3, "turns that count; three times as many of training steps")


def _add_formats(parser):
    _add_models(parser, EXPORTED)
    _add_formats_and_precisions(parser)
    parser.set_defaults(precisions=("float32", "float16"))
    _add_count(parser, "--turns", 5, "turns that count")


def _add_formats_and_precisions(parser):
    _add_some(parser, "--formats", FORMATS, "of the exports")
    _add_some(parser, "--precisions", EXPORT_PRECISIONS, "of the exports")
    parser.set_defaults(formats=FORMATS)


def _add_run_or_model(parser):
    group = parser.add_mutually_exclusive_group(required=True)
    add_run(group, required=False)
    group.add_argument(
        "--model",
        type=model,
        metavar="MODEL",
        help="NAME[:OPTION=VALUE...], a model with random weights instead",
    )
    _add_size(parser, (320, 480))
    _add_classes(parser)


def _add_models(parser, default):
    parser.add_argument(
        "--models",
        type=model,
        nargs="+",
        default=[model(text) for text in default],
        metavar="MODEL",
        help="NAME[:OPTION=VALUE...], such as fcn_vgg16:skips=16,8",
    )


def _add_size(parser, default):
    parser.add_argument(
        "--size",
        type=size,
        default=default,
        metavar="HxW",
        help="of the images, in pixels; an SSD has its own",
    )


def _add_classes(parser):
    _add_count(parser, "--classes", 19, "classes of a model given by name")


def _add_batch_sizes(parser, default):
    parser.add_argument(
        "--batch-sizes", type=counts, default=default, metavar="B,B", help="images of a batch"
    )


def _add_choice(parser, flag, values, help):
    parser.add_argument(flag, choices=values, default=values[0], help=help)


def _add_some(parser, flag, values, help):
    """An option that takes some of `values`, by default the first."""
    parser.add_argument(
        flag,
        type=some_of(values),
        default=values[:1],
        metavar=",".join(values),
        help=help,
    )


def _add_count(parser, flag, default, help):
    parser.add_argument(flag, type=positive(int), default=default, metavar="N", help=help)


def _add_steps(parser):
    _add_count(parser, "--steps", 3, "steps of each row in a turn")


def _add_turns(parser, default):
    _add_count(parser, "--turns", default, "turns that count")
    parser.add_argument(
        "--alone",
        action="store_true",
        help="each row after the other, not in turns: where they do not fit into memory together",
    )

"""What tests of several rooms share: real data, the program, and a tiny fitted run of each task."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")  # numbers must not depend on the machine
os.environ.setdefault("CI", "true")  # else OpenVINO reports each conversion to its makers

import pytest  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[1]
REAL_DATA = Path(os.environ.get("KERASDENSE_REAL_DATA", REPOSITORY.parent / "shared" / "data"))
SCENES = 6  # of the drawn data


def needs_real_data(name):
    """A mark that skips a test where the folder or file `REAL_DATA/name` is absent."""
    return pytest.mark.skipif(
        not (REAL_DATA / name).exists(),
        reason=f"no {name} under {REAL_DATA} (set KERASDENSE_REAL_DATA to its parent folder)",
    )


def call(*arguments):
    """Runs the program in this process: `call("evaluate", "--run", run)`; its exit status."""
    from kerasdense.cli.main import main

    with pytest.raises(SystemExit) as exit_of:
        main(arguments)
    return exit_of.value.code or 0


@pytest.fixture
def kerasdense(capsys):
    """The program: `kerasdense("evaluate", "--run", run)` -> status, output, errors."""

    def run(*arguments):
        capsys.readouterr()  # what was printed before
        status = call(*arguments)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


# What follows is made once and only read: tests that write give an --output of their own.


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    """Drawn scenes, 192x256, in the layouts of `folder` and `folder_detection`."""
    folder = tmp_path_factory.mktemp("scenes") / "toy"
    assert call("make-toy-streets", "--output", folder, "--count", SCENES) == 0
    return folder


@pytest.fixture(scope="session")
def prepared_dir(tmp_path_factory):
    """Where the prepared forms of datasets lie."""
    return tmp_path_factory.mktemp("prepared")


@pytest.fixture(scope="session")
def fit_flags(toy_folder, prepared_dir):
    """Arguments of a fit that takes seconds: `fit_flags(network, workdir, *more)`."""
    small = ("--blocks", "1,1,1,1", "--size", "64x64")
    flags = {
        "ladder_densenet": ("--dataset", "folder", *small),
        "fcn": ("--dataset", "folder", "--size", "64x64"),
        "atrous_fcn_resnet50": ("--dataset", "folder", "--size", "64x64"),
        "ssd300": ("--dataset", "folder_detection", "--width", 1 / 64, "--optimizer", "adam"),
        "densenet121_classifier": ("--dataset", "folder_detection", *small),
    }

    def arguments(network, workdir, *more):
        return (
            "fit", network, "--source", toy_folder, "--prepared-dir", prepared_dir,
            "--workdir", workdir, "--weights", "none", "--batch-size", 2, "--epochs", 1,
            "--steps-per-epoch", 2, *flags[network], *more,
        )  # fmt: skip

    return arguments


def fitted(tmp_path_factory, fit_flags, network, *more):
    folder = tmp_path_factory.mktemp(network) / "run"
    assert call(*fit_flags(network, folder, *more)) == 0
    return folder


@pytest.fixture(scope="session")
def segmentation_run(tmp_path_factory, fit_flags):
    """The folder of a LadderDenseNet fitted to `toy_folder`."""
    return fitted(tmp_path_factory, fit_flags, "ladder_densenet")


@pytest.fixture(scope="session")
def detection_run(tmp_path_factory, fit_flags):
    """The folder of a narrow SSD300 fitted to `toy_folder`."""
    return fitted(tmp_path_factory, fit_flags, "ssd300")


@pytest.fixture(scope="session")
def classification_run(tmp_path_factory, fit_flags):
    """The folder of a DenseNet classifier fitted to `toy_folder`, for two epochs."""
    return fitted(tmp_path_factory, fit_flags, "densenet121_classifier", "--epochs", 2)


@pytest.fixture(scope="session")
def exported_version(tmp_path_factory):
    """`(kind, format, precision) -> version folder` of a small model, written once and read only.

    `kind`: a key of `small_models.BUILD`. Skips where the format's packages are not installed.
    """
    import small_models

    from kerasdense.export.artefact import export
    from kerasdense.export.signatures import Form

    root = tmp_path_factory.mktemp("exported")

    def version(kind, format="saved_model", precision="float32"):
        pytest.importorskip(small_models.CONVERTERS.get(format, "tensorflow"))
        pytest.importorskip(small_models.RUNTIMES.get(format, "tensorflow"))
        name = root / f"{kind}_{format}_{precision}"
        if not name.exists():
            model, task = small_models.BUILD[kind](), small_models.small_task(kind)
            export(model, task, name, Form(format, precision))
        return name / "1"

    return version


@pytest.fixture(scope="session")
def exported_predictor(exported_version):
    """As `exported_version`, its Predictor."""
    import functools

    from kerasdense.export.predictor import Predictor

    of_version = functools.cache(Predictor)
    return lambda *form: of_version(exported_version(*form))


@pytest.fixture(scope="session")
def exported_reference():
    """`(kind) -> parity.Reference` of a small model."""
    import functools

    import small_models

    from kerasdense.export.parity import Reference

    def reference(kind):
        return Reference(small_models.BUILD[kind](), small_models.small_task(kind))

    return functools.cache(reference)


def trains(model, images, targets):
    """Trains a compiled model on a batch: its logs, by name.

    All weights must have changed and be finite: the loss alone says nothing, for it is of the
    weights before the step. A loss scale for float16 begins too high, so that steps are skipped:
    then more follow, until one is taken.
    """
    import keras
    import numpy as np

    def values():
        return {
            variable.path: np.asarray(keras.ops.convert_to_numpy(variable), np.float32)
            for variable in (*model.trainable_variables, *model.non_trainable_variables)
            if variable.dtype.startswith(("float", "bfloat"))
        }

    model.optimizer.build(model.trainable_variables)  # else the step is traced twice, for them
    before, steps = values(), int(model.optimizer.iterations)
    for _ in range(20):
        model.reset_metrics()
        logs = model.train_on_batch(images, targets, return_dict=True)
        if int(model.optimizer.iterations) > steps:
            break
    assert int(model.optimizer.iterations) == steps + 1, "no step was taken"
    after = values()
    assert not [path for path in after if not np.isfinite(after[path]).all()], "not finite"
    assert not [path for path in after if np.array_equal(after[path], before[path])], "unchanged"
    assert all(np.isfinite(float(value)) for value in logs.values()), logs
    return {name: float(value) for name, value in logs.items()}

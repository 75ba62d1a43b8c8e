"""The run folder: run.json beside the models that training keeps, and the dataset it names."""

import json
import os
from pathlib import Path

import keras

from kerasdense import tasks
from kerasdense.training.checkpoints import epoch_of, load_model
from kerasdense.training.optimizers import optimizers_of, use_averages

FACTS = "run.json"
UNFINISHED_FACTS = "run.json.unfinished"  # left by a kill
BEST, LAST = "best.keras", "last.keras"
METRICS = "metrics.jsonl"  # a line an epoch
REQUIRED = ("model", "dataset")  # what evaluation, prediction and export need to know
BEGUN_WITH = "begun_with"  # of a summary: the runs that a run began with
FIRST_TASK = "segmentation"  # the first runs did not name theirs


def write_run(directory, facts):
    """Write `facts` (JSON-like) to DIRECTORY/run.json, whole or not at all."""
    path = Path(directory) / FACTS
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(UNFINISHED_FACTS)
    aside.write_text(json.dumps(facts, indent=2) + "\n")
    os.replace(aside, path)


def read_run(directory):
    """The facts in DIRECTORY/run.json, a dict.

    Raises: FileNotFoundError without one; ValueError if it is damaged or lacks an entry.
    """
    path = Path(directory) / FACTS
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} is no run folder: it holds no {FACTS}. Give the --workdir of a "
            f"finished or running fit."
        )
    try:
        facts = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged, expected JSON: {error}.") from error
    missing = [key for key in REQUIRED if not isinstance(facts, dict) or key not in facts]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(missing)}. Was it written by a fit?")
    facts.setdefault("task", FIRST_TASK)
    return facts


def load_run(directory, checkpoint=BEST):
    """The model kept in a run folder, and the run's facts: (keras.Model, dict).

    `checkpoint`: BEST or LAST; both have averaged weights where the run averages them.
    Raises: FileNotFoundError without run.json or checkpoint; ValueError if one is damaged.
    """
    facts = read_run(directory)
    path = Path(directory) / checkpoint
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} holds no {checkpoint} yet: training writes it after its first epoch. "
            "Let the run finish an epoch; the same fit again restores what a kill left undone"
            f"{', and a run of imported weights has the best alone' if checkpoint == LAST else ''}."
        )
    if checkpoint == LAST and averages_weights(facts):
        return _last_averaged(path, facts), facts
    return load_model(path, compile=False), facts


def averages_weights(facts):
    """Whether a run keeps averages of its weights; its LAST then has them in the optimizer."""
    return bool(facts.get("arguments", {}).get("average_weights"))


def _last_averaged(path, facts):
    policy = keras.config.dtype_policy()
    # In another precision Keras makes another optimizer, and leaves all of its variables out.
    keras.config.set_dtype_policy(facts["arguments"].get("precision") or "float32")
    try:
        model = load_model(path)
    finally:
        keras.config.set_dtype_policy(policy)
    if not all(int(optimizer.iterations) for optimizer in optimizers_of(model)):
        raise ValueError(
            f"{path} has no averages of its weights: none were loaded, or no step was applied yet "
            "(float16 skips those whose gradients overflow). Let the run finish more epochs."
        )
    use_averages(model)
    return model


def load_dataset(
    facts, name=None, source=None, prepared_dir=None, mask_values=None, same_classes=True
):
    """A prepared dataset for a run, by default its own: (builder, name).

    `facts`: of the run, see `read_run`; the others as of `data.datasets.load`. A line is printed
    where the run's own dataset has other splits than when it was fitted.
    Raises: ValueError if there is none, it holds another kind of truth than the run's task reads,
    or (where they must be the `same_classes`) its classes are not the run's.
    """
    from kerasdense.data import datasets

    dataset = facts["dataset"]
    # Another dataset has another source: the run's own serves only its own dataset.
    name = name or dataset["name"]
    if name is None:
        raise ValueError(
            "The model was fitted on no dataset of ours. Name one by --dataset (an old export does "
            "not tell its own, either)."
        )
    is_own = name == dataset["name"] and (
        source is None or str(Path(source).resolve()) == dataset.get("source")
    )
    if name == dataset["name"]:
        source = source or dataset.get("source")
        mask_values = mask_values or dataset.get("mask_values")
    prepared_dir = prepared_dir or dataset.get("prepared_dir")
    task = tasks.named(facts["task"])
    datasets.check_truth(name, task.features)
    builder = datasets.load(name, source, prepared_dir, mask_values)
    if same_classes:
        check_classes(facts, task.classes(builder)[0], name)
    if is_own:
        report_other_splits(builder, dataset)
    return builder, name


def check_classes(facts, class_names, name, other_cure=""):
    """Raises ValueError if the `class_names` of the dataset `name` are not the run's, in order.

    `other_cure`: what the message names beside another dataset.
    """
    known = list(facts["dataset"]["class_names"])
    if list(class_names) != known:
        raise ValueError(
            f"The model knows the classes {', '.join(known)}, {name} has {', '.join(class_names)}. "
            f"Take a dataset with the same classes in this order{other_cure}."
        )


def report_other_splits(builder, dataset):
    """Says so where a run was fitted on other splits of its dataset than there are now.

    `dataset`: as the run records it; first runs recorded the sizes of the splits alone.
    """
    from kerasdense.data import overlap

    old = dataset.get("splits") or {}
    now = {split: info.num_examples for split, info in builder.info.splits.items()}
    images = overlap.digests(builder.builder_config.source)
    if not old or (old == now and (dataset.get("images") or images) == images):
        return

    def sizes(splits):
        return " + ".join(f"{count} {split}" for split, count in splits.items())

    what = f"{sizes(old)} images when the run was fitted, {sizes(now)} now"
    if old == now:
        what = f"{sizes(now)} images as then, but others"
    print(
        f"note: the splits of {dataset['name']} are not those of the run ({what}): images that it "
        "was trained on may be in another split, where they would be measured too well. Lists of "
        "the images of each split (splits/train.txt, val.txt) settle which they are."
    )


def training_split(facts):
    """The split that a run is trained on."""
    return facts.get("arguments", {}).get("train_split") or "train"


def validation_split(facts, name=None):
    """The split that a run is measured on where none is named.

    That of its own validation, on its own dataset; of another dataset, `name`, "val".
    """
    if name not in (None, facts["dataset"]["name"]):
        return "val"
    return facts.get("arguments", {}).get("validation_split") or "val"


def trained_on(facts, builder, name, split):
    """Whether a run was trained on pictures of a split; None if that cannot be known.

    So was a run that began with the weights of such a run. The files of the pictures tell, while
    the training split is still the one of then; of what is drawn, as toy_streets, the names of the
    splits.

    Args:
        facts: of the run, see `read_run`.
        builder, name: of the dataset with the split, as `load_dataset` gives them.
        split: its name.
    """
    found = [
        run and _fitted_on(run["dataset"], training_split(run), builder, name, split)
        for run in _lineage(facts)
    ]
    return True if True in found else None if None in found else False


def _lineage(facts):
    """The facts of a run, and of those that it began with (--initialize, --weights), and so on.

    None stands for one that cannot be read.
    """
    if BEGUN_WITH in facts:
        return [facts, *facts[BEGUN_WITH]]
    found, ahead = [], [facts]
    while ahead:
        run = ahead.pop()
        if run in found:
            continue  # it was fitted anew, from what came of it
        found.append(run)
        if run is None:
            continue
        begun_with = run.get("arguments", {}).get("initialize")
        if begun_with:
            source = Path(begun_with)
            ahead.append(_facts_or_none(source if source.is_dir() else source.parent))
        weights = Path((run.get("weights") or {}).get("source") or "imagenet")
        if weights.is_absolute():  # a file, which may be of no run of ours
            is_of_run = (weights.parent / FACTS).is_file()
            if is_of_run or not weights.is_file():
                ahead.append(_facts_or_none(weights.parent))
    return found


def _facts_or_none(folder):
    try:
        return read_run(folder)
    except (ValueError, OSError):
        return None


def _fitted_on(own, trained, builder, name, split):
    """As `trained_on`, for the split `trained` of a dataset `own`, an entry of run.json."""
    from kerasdense.data import overlap

    if own["name"] is None:
        return None  # weights that others have trained
    is_named_so = overlap.full_name(name) == overlap.full_name(own["name"])
    if "source" not in own:
        return _fitted_on_named(own, trained, builder, is_named_so, split)
    theirs, ours = builder.builder_config.source, own.get("source")
    if theirs is None or ours is None:  # a drawn scene is no file
        is_drawn_too = theirs is None and ours is None and is_named_so
        return is_drawn_too and (split in trained or trained in split)
    recorded, there = own.get("images", {}), overlap.digests(theirs)
    is_gone = not Path(ours).exists()
    has_moved = is_gone and trained in recorded and recorded[trained] == there.get(trained)
    if is_named_so and is_gone and "images" not in own and split == trained:
        return True  # all that the first runs tell
    if is_named_so and (has_moved or theirs.root.resolve() == Path(ours).resolve()):
        mine = theirs
    else:
        try:
            mine = overlap.source_of(own["name"], ours)
        except (ValueError, OSError):
            return None  # they are gone, or the files of another dataset by now
    if trained not in mine.splits:
        return None
    pictures = overlap.images_in(theirs, split), overlap.images_in(mine, trained)
    if overlap.shared_picture(*pictures):
        return True
    is_unchanged = recorded.get(trained) == overlap.digests(mine)[trained]
    return False if is_unchanged else None


def _fitted_on_named(own, trained, builder, is_named_so, split):
    """As `_fitted_on`, for a dataset `own` without paths, of a `summary`.

    `is_named_so`: whether the builder is of a dataset of the same name.
    """
    from kerasdense.data import overlap

    theirs, recorded = builder.builder_config.source, own.get("images")
    if recorded is None:
        return None
    if theirs is None or not recorded:  # a drawn scene is no file
        is_drawn_too = theirs is None and not recorded and is_named_so
        return is_drawn_too and (split in trained or trained in split)
    # The names of the pictures it was trained on tell that they are those of now.
    if not is_named_so or overlap.digests(theirs).get(trained) != recorded.get(trained):
        return None
    pictures = (overlap.images_in(theirs, each) for each in (split, trained))
    return overlap.shared_picture(*pictures) is not None


def check_measured(facts, builder, name, split, allow_trained=False):
    """What `trained_on` says of a split to measure a run on.

    Raises: ValueError if it was trained on, unless that is allowed; or if there is no such split.
    """
    if split not in builder.info.splits:
        raise ValueError(
            f"{name} has no split '{split}'. It has: {', '.join(builder.info.splits)}."
        )
    found = trained_on(facts, builder, name, split)
    if found and not allow_trained:
        others = [other for other in builder.info.splits if other != split]
        unseen = [other for other in others if not trained_on(facts, builder, name, other)]
        cure = f"--split {' or '.join(unseen)}" if unseen else "another dataset"
        raise ValueError(
            f"The model was trained on pictures of {name}, split {split}, so they do not tell how "
            f"it does on others. Take {cure}, or insist by --allow-trained."
        )
    return found


def summary(directory):
    """What an exported model tells of its training: a JSON-like dict, without local paths.

    The model and its arguments, dataset and splits, weights, parameters, versions, and
    `best_epoch`, the epoch that BEST says it is of, with its numbers (None if the run has none, as
    after an import of weights). `arguments` name the splits it was trained and validated on, and
    `begun_with` those of the runs that it began with, for `exported_facts`.
    Raises: as `read_run`.
    """
    facts = read_run(directory)
    metrics = Path(directory) / METRICS
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    by_epoch = {line["epoch"]: line for line in map(json.loads, lines)}
    # Not the line that tells the best result: a kill may come between that and the model.
    model = Path(directory) / BEST
    best = epoch_of(model) if model.is_file() else None
    kept = ("model", "seed", "parameters", "versions")
    kept_of_dataset = ("name", "splits", "images", "mask_values")
    dataset = {key: facts["dataset"].get(key) for key in kept_of_dataset}
    splits = {"train_split": training_split(facts), "validation_split": validation_split(facts)}
    return {
        **{key: facts[key] for key in kept if key in facts},
        "dataset": dataset,
        "arguments": splits,
        BEGUN_WITH: [run and _pictures_of(run) for run in _lineage(facts)[1:]],
        "best_epoch": by_epoch.get(best),
    }


def _pictures_of(run):
    """What of the facts of a run tells the pictures that it was trained on, without local paths."""
    dataset = {key: run["dataset"].get(key) for key in ("name", "images")}
    return {"dataset": dataset, "arguments": {"train_split": training_split(run)}}


def exported_facts(facts):
    """As `read_run`, of an export: what the `facts` of its model.json tell of the run.

    They hold no local paths. Of an older export, or one of no run, less is known: the name of the
    dataset is None where it does not tell, and so is what it began with.
    """
    run = facts.get("run") or {}
    classes = {key: facts[key] for key in ("class_names", "palette")}
    return {
        "task": facts["task"],
        "dataset": {"name": None, **(run.get("dataset") or {}), **classes},
        "arguments": run.get("arguments") or {},
        BEGUN_WITH: run.get(BEGUN_WITH, [None]),
    }

"""Sources of data, built from a config."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from growmas.config import (
    CsvConfig,
    FolderConfig,
    HubConfig,
    IdxConfig,
    NamedSourceConfig,
    NormaliseConfig,
    NpzConfig,
    ParquetConfig,
    SourceKind,
)
from growmas.data import Dataset, load_source
from growmas.data.files import read_npz
from growmas.data.folders import read_folder
from growmas.data.hub import read_hub
from growmas.data.idx import read_idx_folder
from growmas.data.preparation import (
    scaling_by_numbers,
    scaling_to_standard,
    scaling_to_unit,
    with_channels,
    with_size,
)
from growmas.data.python import dataset_from
from growmas.data.tables import read_table
from growmas.data.targets import call_target
from growmas.errors import DataError


def build_source(config: str | SourceKind, imports: Sequence[str] = ()) -> Dataset:
    """Load a source and prepare its inputs.

    Args:
        config: A name, or a `stream.source` of an experiment.
        imports: Folders in which modules of targets are found.

    Raises:
        DataError: The data is missing or does not fit; its `key` leads to the setting to change.
        ConfigError: A target cannot be imported or called.
    """
    if isinstance(config, str):
        return load_source(config)
    return _prepared(_read(config, imports), config)


def _read(config: SourceKind, imports: Sequence[str]) -> Dataset:
    classes = list(config.classes) if config.classes else None
    form = config.inputs
    if isinstance(config, NamedSourceConfig):
        return _named(config)
    if isinstance(config, NpzConfig):
        return read_npz(
            Path(config.path),
            test=config.test,
            input=config.input,
            label=config.label,
            classes=classes,
            form=form,
        )
    if isinstance(config, CsvConfig | ParquetConfig):
        return read_table(
            Path(config.path),
            label=config.label,
            input=config.input,
            test=_path_or_share(config.test),
            size=_size(config.size or config.resize),
            channels=config.channels,
            classes=classes,
            form=form,
        )
    if isinstance(config, FolderConfig):
        return read_folder(
            Path(config.path),
            test=_path_or_share(config.test),
            size=_size(config.size or config.resize),
            channels=config.channels,
            classes=classes,
        )
    if isinstance(config, IdxConfig):
        return read_idx_folder(Path(config.path), classes=classes, form=form)
    if isinstance(config, HubConfig):
        return read_hub(
            config.name,
            Path(config.path) if config.path else None,
            subset=config.subset,
            train=config.train,
            test=config.test,
            label=config.label,
            input=config.input,
            size=_size(config.size or config.resize),
            channels=config.channels,
            classes=classes,
            form=form,
        )
    value = call_target(config.target, config.args, folders=imports)
    return dataset_from(value, config.target, test=config.test, classes=classes, form=form)


def _named(config: NamedSourceConfig) -> Dataset:
    if config.path is None:
        source = load_source(config.name)
    elif config.name == "fashion_mnist":
        from growmas.data.builtin import fashion_mnist

        source = fashion_mnist(Path(config.path))
    else:
        raise DataError(f"source {config.name!r} takes no path: leave it out", key=("path",))
    if config.classes:
        if len(config.classes) != len(source.classes):
            raise DataError(
                f"{config.name!r} has {len(source.classes)} classes, got {len(config.classes)} "
                "names",
                key=("classes",),
            )
        source = replace(source, classes=config.classes)
    return source


def _prepared(source: Dataset, config: SourceKind) -> Dataset:
    """Return a source with the channels, size and normalisation of its config."""
    for key, wanted in (("channels", config.channels), ("resize", config.resize)):
        if wanted is not None and source.train_inputs.ndim != 4:
            raise DataError(
                f"only images have {key}, but one input of {source.name!r} has shape "
                f"{tuple(source.train_inputs.shape[1:])}: leave it out, or set inputs: images",
                key=(key,),
            )

    def half(inputs: Tensor) -> Tensor:
        if config.channels is not None:
            inputs = with_channels(inputs, config.channels)
        return with_size(inputs, size) if (size := _size(config.resize)) else inputs

    train = half(source.train_inputs)
    source = replace(source, train_inputs=train, test_inputs=half(source.test_inputs))
    given = config.normalise
    if given is None:
        return source
    if not train.is_floating_point() and train.ndim == 2 and train.element_size() > 1:
        raise DataError("tokens cannot be normalised: leave it out", key=("normalise",))
    if isinstance(given, NormaliseConfig):
        shape = tuple(train.shape[1:])
        scaling = scaling_by_numbers(list(given.mean), list(given.std), shape)
    else:
        scaling = scaling_to_unit(train) if given == "unit" else scaling_to_standard(train)
    return replace(source, scaling=scaling)


def _path_or_share(value: str | float | None) -> Path | float | None:
    return Path(value) if isinstance(value, str) else value


def _size(given: tuple[int, ...] | None) -> tuple[int, int] | None:
    return (given[0], given[1]) if given else None

"""Deltas of `bitfit` in transformers: reads what a run trained, applies it to a model in memory, and removes it again.

    from transformers import AutoModelForSequenceClassification
    import bitfit

    delta = bitfit.read("runs/reviews")
    model = AutoModelForSequenceClassification.from_pretrained("./bert", num_labels=len(delta.labels))
    with delta.on(model):
        model(**inputs).logits            # what `bitfit predict` answers
    bitfit.take(model, delta).write("further.safetensors")   # after more training in PyTorch

A delta holds the new values of the biases under their Hugging Face names, and a head. `pip install bitfit[transformers]` installs
torch, transformers and safetensors as well. `read` and `Delta.write` also work without torch, on numpy arrays. For methods that train
more than biases (`lora`, `ia3`, `random`, `rows`, `added-biases`, `full`), use `bitfit merge`, which writes a folder that transformers
loads.
"""
import hashlib
import importlib.util
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Delta", "read", "restore", "take"]

FILE = "bias.safetensors"
# Methods whose tensors the model has itself, under the same names.
METHODS = ("bitfit", "head", "layernorm")


@dataclass(frozen=True)
class Delta:
    """`tensors`: f32 values by Hugging Face name, including the head's. `metadata`: text by key, as in the file."""

    tensors: dict
    metadata: dict

    @property
    def labels(self):
        """Names of the classes, in the order of the head's outputs; empty if there are none."""
        return json.loads(self.metadata["labels"])

    @property
    def pooling(self):
        """`cls`, `mean`, or `auto` if the head is on each token."""
        return self.metadata["pooling"]

    def apply(self, model, base=None):
        """Applies the delta to `model`, a transformers model of the same shape. Returns the previous values by the model's own names,
        for `restore`. The model must have the weights that the delta was trained on: `base` is their file or folder (default:
        `model.config._name_or_path`, if that exists).

        Raises ValueError, and changes nothing, if the base is another one, if the model lacks a tensor or has it in another shape, or
        if the head reads the mean of the tokens, which no transformers class computes."""
        self._check_base(model, base)
        places = self._places(model)
        before = {}
        for name, (parameter, value) in places.items():
            before[name] = parameter.detach().clone()
            _set(parameter, value)
        return before

    @contextmanager
    def on(self, model, base=None):
        """`apply` for the duration of a `with` block."""
        before = self.apply(model, base)
        try:
            yield model
        finally:
            restore(model, before)

    def write(self, path):
        """Writes the file that `bitfit predict --delta` reads. An existing file is replaced in one step."""
        if any(hasattr(value, "contiguous") for value in self.tensors.values()):
            from safetensors.torch import save_file
        else:
            from safetensors.numpy import save_file

        path = Path(path)
        path = path / FILE if path.is_dir() else path
        fresh = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            tensors = {name: getattr(value, "contiguous", lambda: value)() for name, value in self.tensors.items()}
            save_file(tensors, str(fresh), self.metadata)
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)

    def _check_base(self, model, base):
        if base is None:
            base = getattr(model.config, "_name_or_path", "")
            if not Path(base).exists():
                raise ValueError(f"cannot tell which weights the model has ({base!r} is not a file or folder here): give the "
                                 "base's file or folder as `base`")
        found, wanted = _weights_sha256(Path(base)), self.metadata["base_sha256"]
        if found != wanted:
            raise ValueError(f"{base}: its weights are not those that the delta was trained on (sha256 {found}, not {wanted})")

    def _places(self, model):
        """(parameter, value) by the model's names."""
        if self.pooling == "mean" and any(name.startswith("classifier") for name in self.tensors):
            raise ValueError("the delta's head is on the mean of the tokens, which no transformers class computes: "
                             "use `bitfit predict`")
        parameters = dict(model.named_parameters())
        places, missing = {}, []
        for name, value in self.tensors.items():
            own = _own_name(name, model, parameters)
            if own is None:
                missing.append(name)
                continue
            if parameters[own].shape != value.shape:
                raise ValueError(f"{name}: the delta's shape is {tuple(value.shape)}, the model's {tuple(parameters[own].shape)}")
            places[own] = (parameters[own], value)
        if missing:
            raise ValueError(f"the model has no {', '.join(sorted(missing))}")
        return places


def read(path):
    """Reads a delta from a run's folder or from its file. The tensors are torch tensors, or numpy arrays if torch is not installed.

    Raises ValueError if it is not a delta, or if its method changes more than biases."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        with safe_open(str(path), "pt" if importlib.util.find_spec("torch") else "np") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path}: {error}") from None
    if metadata.get("format") != "bitfit-delta":
        raise ValueError(f"{path}: not a bitfit delta (`format` is {metadata.get('format')!r})")
    if metadata.get("format_version") != "1":
        raise ValueError(f"{path}: format version {metadata.get('format_version')!r}; this module reads version 1")
    if metadata.get("method") not in METHODS:
        raise ValueError(f"{path}: method {metadata.get('method')!r} changes more than biases; "
                         "use `bitfit merge` instead")
    return Delta(tensors, metadata)


def take(model, like):
    """A delta with the model's current values of everything that `like` changes: it saves what was trained further in PyTorch.

    Raises ValueError for tensors that do not match, as `Delta.apply` does, and for values that are not finite."""
    places = like._places(model)
    by_own = {}
    parameters = dict(model.named_parameters())
    for name in like.tensors:
        by_own[name] = _own_name(name, model, parameters)
    tensors = {name: places[own][0].detach().float().cpu().clone() for name, own in by_own.items()}
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise ValueError(f"{name}: not all values are finite")
    return Delta(tensors, dict(like.metadata))


def restore(model, before):
    """Puts back the values that `Delta.apply` returned."""
    parameters = dict(model.named_parameters())
    for name, value in before.items():
        _set(parameters[name], value)


def _set(parameter, value):
    parameter.data.copy_(value.to(parameter.device, parameter.dtype))


def _own_name(name, model, parameters):
    """The model's name for a tensor, with or without the encoder's prefix; `None` if the model has no such tensor."""
    prefix = model.base_model_prefix + "."
    for own in (name, name.removeprefix(prefix), prefix + name):
        if own in parameters:
            return own
    return None


def _weights_sha256(path):
    """What `base_sha256` should be: the hash of the file or, if there are several, of the listing that sha256sum prints for them."""
    files = [path] if path.is_file() else _weight_files(path)
    hashes = {}
    for file in files:
        digest = hashlib.sha256()
        with open(file, "rb") as content:
            while piece := content.read(1 << 20):
                digest.update(piece)
        hashes[file.name] = digest.hexdigest()
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    listing = "".join(f"{hash}  {name}\n" for name, hash in sorted(hashes.items()))
    return hashlib.sha256(listing.encode()).hexdigest()


def _weight_files(folder):
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise ValueError(f"{folder}: neither {single.name} nor {index.name}")
    return [folder / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]

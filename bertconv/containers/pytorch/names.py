"""The names that a torch pickle may ask for, in three lists: interpreted, inert, and everything else, which is refused.

Nothing is ever imported or called, so the lists decide what is said about a file, not what it can do.
"""

from __future__ import annotations

from bertconv.containers.pytorch.values import Global, Role, unsupported
from bertconv.text import printable

MODULE_PICKLED = "holds a whole module that was pickled ({}); save its state_dict()."

PLAIN_TENSORS = ("torch.Tensor", "torch.nn.parameter.Parameter")
"""Classes of tensors that are no more than their elements."""

_STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16",
    "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool",
    "ComplexDouble": "complex128", "ComplexFloat": "complex64", "Untyped": "",
}  # fmt: skip

_DTYPES = {
    "double": "float64",
    "float": "float32",
    "half": "float16",
    "long": "int64",
    "int": "int32",
    "short": "int16",
}
_DTYPES |= {
    name: name
    for name in (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16",
        "uint8", "bool", "complex128", "complex64", "complex32", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
        "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2", "qint8", "quint8", "qint32", "quint4x2", "quint2x4",
    )
}  # fmt: skip

_INTERPRETED = {
    "torch._utils._rebuild_tensor": Role.REBUILD,
    "torch._utils._rebuild_tensor_v2": Role.REBUILD,
    "torch._utils._rebuild_tensor_v3": Role.REBUILD,
    "torch._utils._rebuild_parameter": Role.PARAMETER,
    "torch._utils._rebuild_parameter_with_state": Role.PARAMETER,
    "torch._tensor._rebuild_from_type_v2": Role.FROM_TYPE,
    "collections.OrderedDict": Role.ORDERED_DICT,
    "torch.Size": Role.SIZE,
    "_codecs.encode": Role.ENCODE,
    "copyreg._reconstructor": Role.NEW,
    "copy_reg._reconstructor": Role.NEW,  # Python 2's name, which protocol 2 keeps
    "copyreg.__newobj__": Role.NEW,
    "copy_reg.__newobj__": Role.NEW,
}

_BUILTIN_TYPES = (
    "set", "frozenset", "bytearray", "complex", "slice", "range", "xrange", "object", "list", "dict", "tuple", "int",
    "long", "float", "str", "unicode", "bytes", "bool",
)  # fmt: skip

_INERT = {f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _BUILTIN_TYPES}
_INERT |= {
    f"numpy.{module}.{name}"
    for module in ("core.multiarray", "_core.multiarray", "core.numeric", "_core.numeric")
    for name in ("scalar", "_reconstruct", "_frombuffer")
}
_INERT |= {f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in (
    "Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")}  # fmt: skip
_INERT |= {
    "argparse.Namespace", "types.SimpleNamespace", "typing.Any", "uuid.UUID", "decimal.Decimal",
    "collections.defaultdict", "collections.Counter", "collections.deque",
    "datetime.datetime", "datetime.date", "datetime.timedelta", "datetime.timezone",
    "numpy.ndarray", "numpy.dtype",
    "torch.device", "torch.Tensor", "torch.nn.parameter.Parameter", "torch.Generator", "torch.memory_format",
    "torch.strided", "torch.contiguous_format", "torch.channels_last", "torch.preserve_format",
    "torch.per_tensor_affine", "torch.per_channel_affine",
}  # fmt: skip

# Settings of training frameworks: classes only, which their own style guides write in CamelCase.
_INERT_PACKAGES = (
    "transformers.training_args.", "transformers.trainer_utils.", "transformers.trainer_pt_utils.",
    "transformers.configuration_utils.", "transformers.debug_utils.", "transformers.integrations.",
    "accelerate.state.", "accelerate.utils.dataclasses.", "torch.optim.", "omegaconf.",
    "pytorch_lightning.", "lightning.", "lightning_fabric.",
)  # fmt: skip

_OTHER_TENSORS = {
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_wrapper_subclass": "a tensor subclass",
    "_rebuild_meta_tensor_no_storage": "a tensor without data (device 'meta')",
    "_rebuild_xla_tensor": "an XLA tensor",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}


def resolve(name: str, file: str) -> Global:
    """The role of a dotted name.

    Raises:
        UnsupportedCheckpoint: a kind of tensor or module that is not converted.
    """
    role = _INTERPRETED.get(name)
    if role:
        return Global(name, role)
    package, _, last = name.rpartition(".")
    if package == "torch._utils" and last in _OTHER_TENSORS:
        raise unsupported(file, f"holds {_OTHER_TENSORS[last]}.", hint="Save dense tensors: weight.dequantize() or so.")
    if package.startswith("torch.nn.modules."):
        raise unsupported(file, MODULE_PICKLED.format(printable(name)))
    if package in ("torch", "torch.cuda", "torch.storage") and last.endswith("Storage"):
        return _storage(name, last.removesuffix("Storage"), file)
    if package == "torch" and last in _DTYPES:
        return Global(name, Role.DTYPE, _DTYPES[last])
    return Global(name, Role.INERT if _is_inert(name, package, last) else Role.REFUSED)


def _storage(name: str, kind: str, file: str) -> Global:
    if kind in _STORAGES:
        return Global(name, Role.STORAGE, _STORAGES[kind])
    if kind in ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4"):
        raise unsupported(file, "holds a quantised tensor.", hint="Save the model before it is quantised.")
    return Global(name, Role.REFUSED)


def _is_inert(name: str, package: str, last: str) -> bool:
    if name in _INERT:
        return True
    if name.startswith("transformers.models.") and ".configuration_" in package and last.endswith("Config"):
        return True
    if package == "numpy.dtypes" and last.endswith("DType"):
        return True
    return name.startswith(_INERT_PACKAGES) and last[:1].isupper()

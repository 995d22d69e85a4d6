"""The defaults that docstrings name, and those that the code has."""

import dataclasses
import importlib
import inspect
import pkgutil
import re

_ENTRY = re.compile(r"^    \*{0,2}(\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)
_DEFAULT = re.compile(
    r"Default: (-?\d[\d,]*(?:\.\d+)?|True|False|`\"[^\"]*\"`)\.?(?=\s|$)"
)
_CHOICE = re.compile(r"(`\"[^\"]*\"`) \(default\)")


def modules_of(package):
    """The modules of a package; sub-packages included."""
    room = importlib.import_module(package)
    names = [m.name for m in pkgutil.walk_packages(room.__path__, f"{package}.")]
    return [importlib.import_module(name) for name in names]


def documented_in(module):
    """`(name, documented, actual)` of each default that a module's docstrings name."""
    for name, member in vars(module).items():
        if getattr(member, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(member):
            yield from _compare(f"{module.__name__}.{name}", member, member)
        elif inspect.isclass(member):
            yield from _compare(f"{module.__name__}.{name}", member, member)
            for method, function in vars(member).items():
                if inspect.isfunction(function):
                    title = f"{module.__name__}.{name}.{method}"
                    yield from _compare(title, function, function)


def _compare(title, documented, called):
    defaults = _defaults(called)
    for name, text in _ENTRY.findall(inspect.getdoc(documented) or ""):
        text = re.sub(r"\s+", " ", text)
        found = _DEFAULT.search(text) or _CHOICE.search(text)
        # None stands for a number that the code finds later
        if found and defaults.get(name) is not None:
            yield f"{title}({name})", _value(found[1]), defaults[name]


def _defaults(called):
    if dataclasses.is_dataclass(called):
        fields = dataclasses.fields(called)
        return {
            f.name: f.default for f in fields if f.default is not dataclasses.MISSING
        }
    try:
        parameters = inspect.signature(called).parameters
    except (TypeError, ValueError):
        return {}
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not parameter.empty
    }


def _value(text):
    if text.startswith("`"):
        return text.strip('`"')
    if text in ("True", "False"):
        return text == "True"
    return float(text.replace(",", ""))

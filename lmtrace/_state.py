"""An LM as plain data, to be saved with a program and built again: parameters yes, credentials and live objects never.

A state names the class it came from. Importing a class because a file says so runs whatever that class's module does, so
`load` refuses to unless the caller vouches for the state. States of `dspy.LM` load as well: the parameters are the same.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lmtrace import _secrets
from lmtrace._errors import LMConfigurationError
from lmtrace._options import is_reasoning_model

if TYPE_CHECKING:
    from lmtrace._lm import LM

CLASS_KEY: Final = "_lmtrace_lm_class"
_DSPY_CLASS_KEY: Final = "_dspy_lm_class"

_BUILT_IN: Final = frozenset({None, "lmtrace.LM", "lmtrace._lm.LM", "dspy.LM", "dspy.clients.lm.LM"})
"""Classes whose state any LM understands, so that nothing needs to be imported for them."""


def dump(lm: LM) -> dict[str, Any]:
    """What `load` needs to build `lm` again. The backend and the callbacks are live objects and left out."""
    state: dict[str, Any] = {
        CLASS_KEY: class_path(type(lm)),
        "model": lm.model,
        "model_type": lm.model_type,
        "cache": lm.cache,
        "num_retries": lm.num_retries,
        **_public(lm.kwargs),
        "finetuning_model": lm.finetuning_model,
        "launch_kwargs": _public(lm.launch_kwargs),
        "train_kwargs": _public(lm.train_kwargs),
    }
    if lm.use_developer_role:
        state["use_developer_role"] = True
    if is_reasoning_model(lm.model) and "max_completion_tokens" in state:
        state["max_tokens"] = state.pop("max_completion_tokens")
    return state


def _public(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that hold no credential anywhere. One with its credential cut out would be sent as it is later."""
    safe, secrets = _secrets.split(kwargs)
    return {name: value for name, value in safe.items() if name not in secrets}


def class_path(cls: type) -> str:
    """The name a class is found by; the public one for `lmtrace.LM`."""
    path = f"{cls.__module__}.{cls.__qualname__}"
    return "lmtrace.LM" if path in _BUILT_IN else path


def load(cls: type[LM], state: Mapping[str, Any], *, allow_custom_lm_class: bool = False) -> LM:
    """The LM a state describes.

    Raises:
        LMConfigurationError: the state names another class and that is not allowed, the class cannot be found or is
            no LM, or the state has no model.
    """
    fields = dict(state)
    path = fields.pop(CLASS_KEY, None) or fields.pop(_DSPY_CLASS_KEY, None)
    if path not in _BUILT_IN and path != class_path(cls):
        if not allow_custom_lm_class:
            raise LMConfigurationError(
                f"The state names the class {path!r}, and loading it would run that class's module. If you trust where "
                "the state comes from, pass allow_custom_lm_class=True."
            )
        return _custom_class(path).load_state(fields, allow_custom_lm_class=True)
    return cls(**_constructor_kwargs(fields))


def _constructor_kwargs(fields: dict[str, Any]) -> dict[str, Any]:
    model = fields.get("model")
    if not isinstance(model, str):
        raise LMConfigurationError("The state has no model, so it is not that of an LM.")
    if is_reasoning_model(model) and "max_completion_tokens" in fields:
        limit = fields.pop("max_completion_tokens")
        fields.setdefault("max_tokens", limit)
    return fields


def _custom_class(path: Any) -> type[LM]:
    from lmtrace._lm import LM

    try:
        found = pkgutil.resolve_name(str(path))
    except (ImportError, AttributeError, ValueError) as error:
        raise LMConfigurationError(f"The state names the class {path!r}, which cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, LM)):
        raise LMConfigurationError(f"The state names {path!r}, which is not a subclass of lmtrace.LM.")
    return found

"""Applications of one process share what the framework works out about the routes that they include.

FastAPI works out each included route (parameters, models, the handler) once per application, with its first request: a
tenth of a second for the ledger's two hundred routes, and tests make hundreds of applications, of which each includes
the same routers in the same way. Only an application's own `dependency_overrides`, which the ledger does not use, would
distinguish them.
"""

from __future__ import annotations

from typing import Any

from fastapi.routing import _IncludedRouter

_work_out = _IncludedRouter.effective_candidates
_known: dict[tuple[Any, ...], tuple[Any, list[Any]]] = {}


def _effective_candidates(included: Any) -> list[Any]:
    """As `_IncludedRouter.effective_candidates`; what another application has worked out, if the inclusion is alike."""
    router, context = included.original_router, included.include_context
    version = router._get_routes_version()
    if version == included._effective_candidates_version:
        result: list[Any] = included._effective_candidates
        return result
    overrides = getattr(context.dependency_overrides_provider, "dependency_overrides", None)
    if overrides or context.dependencies or context.callbacks or context.responses:
        return _work_out(included)
    defaults = (context.default_response_class, context.strict_content_type, context.generate_unique_id_function)
    alike = (
        id(router), version, context.prefix, tuple(context.tags), context.deprecated, context.include_in_schema,
        context.max_body_size, repr(context.form_limits), *[getattr(default, "value", default) for default in defaults],
    )  # fmt: skip
    if alike not in _known:
        _known[alike] = router, _work_out(included)  # the router stays, so that no other gets its id
    included._effective_candidates = _known[alike][1]
    included._effective_candidates_version = version
    return _known[alike][1]


def share() -> None:
    """From now on this process works out each included route once."""
    _IncludedRouter.effective_candidates = _effective_candidates  # type: ignore[method-assign,assignment]

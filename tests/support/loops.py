"""Types of the fixtures that run coroutines."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

RunLoop: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]

"""One suite of behaviours for every adapter, to be run with pytest over yours too.

    from wireroom.transports.conformance import Harness, Suite

    class TestMyAdapter(Suite):
        @pytest.fixture
        def harness(self) -> Harness:
            return MyHarness()

`Harness` says what the suite has to be told of an adapter. Its apps have only handlers that every
adapter can run: `def` ones, and `async def` ones that await nothing but Wireroom's own. Needs
pytest, and trustme for the tests of TLS.
"""

from __future__ import annotations

import pytest

_PARTS = (
    "addresses",
    "applications",
    "deadlines",
    "endings",
    "handlers",
    "handshakes",
    "messages",
    "pressure",
)
# Their asserts say then what they have compared.
pytest.register_assert_rewrite(*[f"{__name__}.{part}" for part in _PARTS])

from .harness import Address, Feature, Harness, Options  # noqa: E402 - only now
from .suite import Suite  # noqa: E402

__all__ = ["Address", "Feature", "Harness", "Options", "Suite"]

import pytest
from asgi_hosts import *
from wireroom.transports.conformance import Harness, Suite
class TestHosts(Suite):
    @pytest.fixture(params=HOSTS)
    def harness(self, request):
        F = Feature
        lacks = {F.HEADS:"host", F.PINGS:"host", F.HALF_CLOSE:"host", F.TLS:"host",F.UNIX:"host",F.ADOPTION:"host",F.FRAMES:"host",F.CLOSING:"host"}
        return HostHarness(HOSTS[request.param](), lacks)

"""Whether the relay can do its work, and what of the rest it should mention. Nothing outside is asked."""

from service.ops import HANG_SECONDS, Health, Readiness
from service.relay.leadership import Leader
from service.relay.pulse import Pulse


class RelayHealth:
    """A standby is as ready as a leader: it has nothing to do yet."""

    def __init__(self, leadership: Leader, pulse: Pulse) -> None:
        self._leadership, self._pulse = leadership, pulse

    def alive(self) -> bool:
        """Whether a leader's loop still turns; a standby has none."""
        return not self._leadership.leading or self._pulse.age < HANG_SECONDS

    def ready(self) -> Readiness:
        """Degraded while a leader cannot reach Kafka, or a topic is paused."""
        if not self._leadership.leading:
            return Readiness(Health.READY, ("standby",))
        reasons = [] if self._pulse.connected else ["kafka_unreachable"]
        reasons += [f"topic_{why}:{name}" for name, why in sorted(self._pulse.paused.items())]
        return Readiness(Health.DEGRADED if reasons else Health.READY, tuple(reasons))

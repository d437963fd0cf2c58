"""Too much: never more than the rate and a burst in any stretch of time, and never less either."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import example, given
from hypothesis import strategies as st

from service.intake.limits import MOST_KNOWN, Buckets, Failures, Policy, Shares, place


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def tokens(rate: float, burst: int, gaps: list[float], costs: list[int]) -> list[bool]:
    """A bucket as the textbook has it: which of these requests find a token, the rest of their cost being owed."""
    left, taken = float(burst), []
    for gap, cost in zip(gaps, costs, strict=True):
        left = min(burst, left + gap * rate)
        taken.append(left >= 1 - 1e-6)
        left -= cost if taken[-1] else 0
    return taken


REQUESTS = st.lists(st.tuples(st.sampled_from([0.0, 0.001, 0.1, 0.25, 1.0, 7.0]), st.integers(1, 20)), max_size=60)


@given(st.sampled_from([1.0, 4.0, 1000.0]), st.integers(1, 20), REQUESTS)
@example(1.0, 1, [(0.0, 1), (0.0, 1), (1.0, 1)])
def test_it_is_the_token_bucket_of_the_textbook(rate: float, burst: int, requests: list[tuple[float, int]]) -> None:
    clock, policy = Clock(), Policy(rate, burst)
    buckets, taken = Buckets(clock), []
    for gap, cost in requests:
        clock.now += gap
        taken.append(buckets.take("one", policy)[1] == 0)
        if taken[-1] and cost > 1:
            buckets.charge("one", policy, cost - 1)

    assert taken == tokens(rate, burst, [gap for gap, _ in requests], [cost for _, cost in requests])


@given(st.integers(1, 2000), st.integers(0, 3000))
def test_who_waits_as_long_as_told_is_let_in_and_not_sooner(rate: int, owed: int) -> None:
    clock, policy = Clock(), Policy(rate, 1000)
    buckets = Buckets(clock)
    buckets.charge("one", policy, owed + 1000)
    _, wait = buckets.take("one", policy)
    assert wait > 0

    clock.now += wait - 0.5 / rate
    assert buckets.take("one", policy)[1] > 0
    clock.now += 0.5 / rate + 1e-6
    assert buckets.take("one", policy)[1] == 0


def test_the_headers_tell_what_is_left() -> None:
    buckets, policy = Buckets(Clock()), Policy(10, 4)
    told = [policy.left(buckets.take("one", policy)[0]) for _ in range(5)]

    assert told == [f'"reports";r={left};t=1' for left in (3, 2, 1, 0, 0)]
    assert policy.told == '"reports";q=4;w=1'
    assert policy.left(buckets.charge("two", policy, 54)) == '"reports";r=0;t=6'


def test_one_sender_takes_nothing_from_another() -> None:
    buckets, policy = Buckets(Clock()), Policy(100, 1000)
    while not buckets.take("storm", policy)[1]:
        pass

    assert all(buckets.take("calm", policy)[1] == 0 for _ in range(1000))


def test_who_comes_from_ever_new_addresses_takes_no_memory() -> None:
    clock = Clock()
    failures = Failures(clock, per_minute=2)
    for n in accumulate([1] * (3 * MOST_KNOWN)):
        failures.count(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}")
    last = [failures.count("192.0.2.1") for _ in range(3)]

    assert len(failures._buckets._full_at) <= MOST_KNOWN
    assert [wait > 0 for wait in last] == [False, False, True]
    clock.now += 31
    assert failures.count("192.0.2.1") == 0


def test_a_network_of_ipv6_is_one_place() -> None:
    assert place("2001:db8::1") == place("2001:db8::ffff:1") != place("2001:db8:0:1::1")
    assert place("192.0.2.1") != place("192.0.2.2")
    assert place("nonsense") == place("")


def test_a_sender_has_its_share_and_gets_it_back() -> None:
    shares = Shares(2, 100)
    assert [shares.enter("one", 10) for _ in range(3)] == [True, True, False]
    assert shares.enter("two", 10)

    shares.leave("one", 10)

    assert [shares.enter("one", 10) for _ in range(2)] == [True, False]


def test_large_bodies_take_more_of_a_share_and_one_fits_always() -> None:
    shares = Shares(9, 100)
    assert [shares.enter("one", size) for size in (60, 50, 40, 1)] == [True, False, True, False]

    shares.leave("one", 60)
    shares.leave("one", 40)

    assert [shares.enter("one", size) for size in (500, 1)] == [True, False]

"""The bandit loop: rewards from mature facts move the next version the right way."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from klartext.app.service.catalogue import Catalogue
from klartext.app.session import Session, open_session
from klartext.app.usecases import allocation, bandits, registry
from klartext.app.usecases.allocation import Request, open_signer
from klartext.experiments import inbox
from klartext.experiments.errors import ConflictError, NotFoundError, NotReadyError
from klartext.experiments.experiment import MILLION
from klartext.experiments.flush import flush
from klartext.experiments.ingest import Writer
from klartext.experiments.records import EventRow, ExposureRow
from tests.app.letters import BANDIT, Clock

KEY = "subject-bandit"
DAY = timedelta(days=1)
RATES = {"control": 0.05, "short": 0.20, "long": 0.05}


def live(session: Session, clock: Clock, units: range, rates: dict[str, float]) -> None:
    """Allocate and expose units, let a share of them open, and end two days later."""
    catalogue = Catalogue(session, open_signer(session.workspace))
    catalogue.refresh()
    signer = open_signer(session.workspace)
    rows: list[ExposureRow | EventRow] = []
    seen: dict[str, int] = dict.fromkeys(rates, 0)
    for number in units:
        answer = allocation.allocate(
            catalogue.servings[KEY],
            Request(f"customer-{number}"),
            pseudonymiser=session.pseudonymiser,
            signer=signer,
            now=clock(),
        )
        variant = answer.served.variant
        name = number.to_bytes(16)
        rows.append(
            ExposureRow(
                name,
                name,
                KEY,
                answer.pseudonym,
                variant,
                clock(),
                answer.served.propensity,
                answer.policy_version,
            )
        )
        before = int(seen[variant] * rates[variant])
        seen[variant] += 1
        if int(seen[variant] * rates[variant]) > before:  # evenly, no draw
            opened = clock() + timedelta(hours=1)
            rows.append(EventRow(name, name, answer.pseudonym, "mail_open", opened))
    deliver(session, rows)
    clock.forward(2 * DAY)
    last = max(units).to_bytes(16, "little")  # what comes later closes the windows of the units
    deliver(session, [EventRow(last, last, 1, "something_else", clock())])


def deliver(session: Session, rows: list[ExposureRow | EventRow]) -> None:
    with session.engine.begin() as connection:
        inbox.put(connection, rows, now=session.now())
    flush(Writer(session.engine, session.facts, session.now))


def test_without_mature_rewards_the_weights_stay(session: Session, clock: Clock) -> None:
    empty = bandits.update(session, KEY, actor="lena")
    assert (empty.outcome, empty.policy.version) == ("no-rewards", 1)
    exposure = ExposureRow(b"1" * 16, b"1" * 16, KEY, 1, "short", clock(), 300_000, 1)
    other = EventRow(b"2" * 16, b"2" * 16, 2, "something_else", clock())
    deliver(session, [exposure, other])
    young = bandits.update(session, KEY, actor="lena")
    assert (young.outcome, young.policy.version, young.immature) == ("no-rewards", 1, 1)


def test_rewards_shift_the_next_version_the_right_way(session: Session, clock: Clock) -> None:
    live(session, clock, range(2_000), RATES)
    done = bandits.update(session, KEY, actor="lena")
    assert (done.outcome, done.policy.version, done.policy.parent) == ("published", 2, 1)
    weights = dict(done.policy.weights)
    assert weights["short"] > 850_000
    assert sum(weights.values()) == MILLION
    assert all(weight >= 50_000 for weight in weights.values())  # floor: 5%
    assert done.policy.evidence is not None
    counted = {arm.variant: arm for arm in done.policy.evidence.arms}
    assert sum(arm.trials for arm in counted.values()) == 2_000
    for variant, rate in RATES.items():
        arm = counted[variant]
        assert arm.successes == pytest.approx(rate * arm.trials, abs=1)
        share = 50_000 + (MILLION - 150_000) * arm.best / MILLION
        assert weights[variant] == pytest.approx(share, abs=1.5)


def test_same_evidence_publishes_nothing_and_new_evidence_the_next(
    session: Session, clock: Clock
) -> None:
    live(session, clock, range(500), RATES)
    assert bandits.update(session, KEY, actor="lena").outcome == "published"
    assert bandits.update(session, KEY, actor="lena").outcome == "no-change"
    assert len(bandits.show(session, KEY).policies) == 2
    # The world turns: short loses, long wins; what is served next follows the new weights.
    live(session, clock, range(500, 3_500), {"control": 0.05, "short": 0.02, "long": 0.6})
    turned = bandits.update(session, KEY, actor="lena")
    assert (turned.outcome, turned.policy.version) == ("published", 3)
    assert dict(turned.policy.weights)["long"] > 850_000


def test_a_reward_that_should_decrease_favours_the_lowest(
    root: Path, session: Session, clock: Clock
) -> None:
    registry.move(session, KEY, "stopped", actor="lena", reason="the other way round")
    text = BANDIT.replace("window: 1d}", "window: 1d, direction: decrease}")
    lower = text.replace("key: subject-bandit", "key: lower-bandit")
    (root / "experiments" / "lower.yaml").write_text(lower)
    session = replace(open_session(root), now=clock)
    registry.apply(session, (root / "experiments" / "lower.yaml",), actor="lena")
    registry.move(session, "lower-bandit", "running", actor="lena")
    exposures = [
        ExposureRow(n.to_bytes(16), b"", "lower-bandit", n, variant, clock(), 1, 1)
        for n, variant in enumerate(["control", "short", "long"] * 200)
    ]
    opens = [
        EventRow(n.to_bytes(16), b"", n, "mail_open", clock() + timedelta(hours=1))
        for n in range(600)
        if n % 3 != 2 or n % 30 == 2  # long is opened by one in ten, the others by all
    ]
    deliver(session, [*exposures, *opens])
    clock.forward(2 * DAY)
    deliver(session, [EventRow(b"z" * 16, b"", 1, "something_else", clock())])
    done = bandits.update(session, "lower-bandit", actor="lena")
    assert dict(done.policy.weights) == {"control": 50_000, "short": 50_000, "long": 900_000}


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        ("mail-ab", ConflictError, "A/B test"),
        ("subject-bandid", NotFoundError, "subject-bandit"),
    ],
)
@pytest.mark.parametrize("verb", [bandits.show, lambda s, k: bandits.update(s, k, actor="lena")])
def test_what_is_no_bandit_is_refused(
    session: Session,
    verb: Callable[[Session, str], object],
    key: str,
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        verb(session, key)


def test_weights_move_only_while_it_runs(session: Session) -> None:
    registry.move(session, KEY, "paused", actor="lena", reason="a look")
    with pytest.raises(NotReadyError, match="paused"):
        bandits.update(session, KEY, actor="lena")

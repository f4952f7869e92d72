"""The prior of a new experiment: from five finished ones, settled when it is registered."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from decimal import Decimal

import numpy as np
import pytest
import sqlalchemy as sa

from klartext.analysis.bayes import track_record
from klartext.analysis.bayes.pooling import Block
from klartext.analysis.bayes.track_record import TrackRecord
from klartext.analysis.moments import Moments, Sample
from klartext.app.usecases import registry, specs
from klartext.experiments import registry as store
from klartext.experiments.experiment import Inference
from klartext.experiments.state import reading
from klartext.experiments.tables import looks
from tests.app.mails import START, Shop

LIFTS = (0.03, -0.02, 0.01, -0.04, 0.05, 0.00)
N, MEAN, SD = 40_000, 10.0, 20.0


def finish(shop: Shop, place: int, lift: float) -> Sample:
    """Register, start and stop an experiment with one recorded look; return its treated margins."""
    key = f"old-{place}"
    spec = shop.root / "experiments" / f"{key}.yaml"
    spec.write_text(shop.spec().replace("key: mail", f"key: {key}"))
    registry.apply(shop.session, [spec], actor="lena.vogt")
    registry.move(shop.session, key, "running", actor="lena.vogt")
    registry.move(shop.session, key, "stopped", actor="lena.vogt", reason="over")

    def kept(mean: float) -> Moments:
        squares = (N - 1) * SD**2
        return Moments(("other", "margin"), N, np.array([0.0, mean]),
                       np.array([[0.0, 0.0], [0.0, squares]]), np.zeros(2),
                       np.zeros(2, dtype=np.int64))  # fmt: skip

    arms = {"control": kept(MEAN), "ai": kept(MEAN * (1 + lift))}
    stored = {
        variant: {"columns": list(one.columns), "n": one.n, "mean": one.mean.tolist(),
                  "m2": one.m2.tolist(), "m3": one.m3.tolist(), "nonzero": one.nonzero.tolist()}
        for variant, one in arms.items()
    }  # fmt: skip
    with shop.session.engine.begin() as connection:
        connection.execute(
            sa.insert(looks).values(
                experiment=key, look=1, version=1, spec_sha256="0" * 64, taken_at=START,
                actor="lena.vogt", watermark_batch=1, watermark_cutoff=START,
                moments=json.dumps({"variants": stored}), result="{}", verdict="STOP",
            )
        )  # fmt: skip
    return arms["ai"].sample("margin")


def registered(shop: Shop, text: str) -> Inference:
    spec = shop.root / "experiments" / "mail.yaml"
    spec.write_text(text)
    registry.apply(shop.session, [spec], actor="lena.vogt")
    with reading(shop.session.engine) as connection:
        return store.load(connection, "mail").experiment.inference


def test_five_finished_experiments_make_the_prior_and_are_its_evidence(shop: Shop) -> None:
    for place, lift in enumerate(LIFTS):
        finish(shop, place, lift)
    found = registered(shop, shop.spec())
    assert found.prior_source == "finished"
    assert [one.rsplit(" ", 1)[0] for one in found.prior_evidence] == [
        f"old-{place} look 1" for place in range(len(LIFTS))
    ]
    # By hand: var(T/C - 1) = (v + (1 + lift)^2 v) / 100, v = 400 / 40,000 = 0.01.
    blocks = [
        Block(f"old-{place}", ("ai",), np.array([lift]),
              np.array([[0.01 * (1 + (1 + lift) ** 2) / MEAN**2]]))
        for place, lift in enumerate(LIFTS)
    ]  # fmt: skip
    expected = track_record.pool_experiments(blocks, scale_prior_sd=0.1, level=0.95)
    assert isinstance(expected, TrackRecord)
    assert float(found.prior_relative_sd) == pytest.approx(expected.prior_sd, abs=0.00005)
    # The spread of the six lifts is 0.030 with an error of 0.014 each: about 0.026 is left.
    spread = math.sqrt(sum(lift**2 for lift in LIFTS) / len(LIFTS) - 0.0002)
    assert float(found.prior_relative_sd) == pytest.approx(spread, rel=0.5)


def test_the_prior_stays_when_more_experiments_finish(shop: Shop) -> None:
    for place in range(5):
        finish(shop, place, LIFTS[place])
    before = registered(shop, shop.spec())
    finish(shop, 5, 0.4)
    (again,) = registry.apply(
        shop.session, [shop.root / "experiments" / "mail.yaml"], actor="lena.vogt"
    )
    assert (again.outcome, again.experiment.experiment.inference) == ("unchanged", before)
    assert specs.diff(shop.session, "mail", None).changes == ()
    # Not even a new version of it moves, so a running test can still be renamed.
    registry.move(shop.session, "mail", "running", actor="lena.vogt")
    renamed = registered(shop, shop.spec().replace("title: AI mails", "title: Mails by AI"))
    assert renamed == before


def test_four_are_too_few(shop: Shop) -> None:
    for place in range(4):
        finish(shop, place, LIFTS[place])
    found = registered(shop, shop.spec())
    assert (found.prior_source, found.prior_relative_sd) == ("default", Decimal("0.1"))
    assert found.prior_evidence == ()


def test_a_stated_prior_is_never_replaced(shop: Shop) -> None:
    for place in range(5):
        finish(shop, place, LIFTS[place])
    text = shop.spec(mode="anytime, prior: {relative_sd: 7%}")
    found = registered(shop, text)
    assert (found.prior_source, found.prior_relative_sd) == ("stated", Decimal("0.07"))


def test_a_first_version_without_record_keeps_its_default(shop: Shop) -> None:
    registered(shop, shop.spec())
    for place in range(5):
        finish(shop, place, LIFTS[place])
    shop.instant += timedelta(days=1)
    assert registered(shop, shop.spec()).prior_source == "default"

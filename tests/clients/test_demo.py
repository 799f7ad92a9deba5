"""The parts of the demo that need no server: recognising the data, fragments and their truth, the response model."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "demo"))

import datasets
import demo
import fragments
import responses


def made_up_hillstrom():
    """A table with the shape and the rates of the real one."""
    sizes = {"Mens E-Mail": 21_307, "Womens E-Mail": 21_387, "No E-Mail": 21_306}
    treatment = np.repeat(list(sizes), list(sizes.values()))
    visit = np.concatenate(
        [np.arange(size) < round(size * datasets.HILLSTROM_RATES[arm]) for arm, size in sizes.items()]
    )
    constants = {"recency": 6, "history": 99.5, "history_segment": "1) $0 - $100", "mens": 1, "womens": 0, "newbie": 1}
    table = pd.DataFrame({"treatment": treatment, "visit": visit.astype(int), "conversion": 0, "spend": 0.0})
    return table.assign(zip_code="Rural", channel="Web", **constants)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes a table to where HILLSTROM points."""

    def write(table, name="test.csv"):
        table.to_csv(tmp_path / name, index=False)
        monkeypatch.setenv("HILLSTROM", str(tmp_path / name))

    return write


@pytest.mark.parametrize("column, name", [("treatment", "test.csv"), ("segment", "test.csv.gz")])
def test_hillstrom_is_recognised_by_its_content(file, column, name):
    table = made_up_hillstrom().sample(frac=1, random_state=1).rename(columns={"treatment": column})
    file(table[sorted(table)], name)
    test = datasets.load()
    assert test.goal == "visit" and len(test.customers) == 64_000 and test.propensity == pytest.approx(1 / 3)
    assert test.responded[test.assigned == "mens_email"].mean() == pytest.approx(0.1828, abs=1e-4)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda table: table.drop(columns="visit"), "column visit is missing"),
        (lambda table: table.iloc[:-1], "63999 rows"),
        (lambda table: table.assign(visit=0), "visit rate"),
        (lambda table: table.replace("No E-Mail", "Nothing"), "arms"),
    ],
)
def test_what_is_not_hillstrom_is_refused(file, change, message):
    file(change(made_up_hillstrom()))
    with pytest.raises(datasets.DatasetError, match=message):
        datasets.load()


def test_a_missing_file_is_an_error_not_a_fallback(tmp_path, monkeypatch):
    monkeypatch.setenv("HILLSTROM", str(tmp_path / "nothing.csv"))
    with pytest.raises(datasets.DatasetError, match="nothing.csv"):
        datasets.load()


def test_the_fallback_needs_no_network(monkeypatch):
    def unreachable(address):
        raise OSError("no network")

    monkeypatch.delenv("HILLSTROM", raising=False)
    monkeypatch.setattr(datasets, "download", unreachable)
    test = datasets.load(lambda text: None)
    assert len(test.customers) == 1410 and test.responded.mean() == pytest.approx(0.46, abs=0.01)
    assert set(test.assigned) == {*test.actions, datasets.NO_SEND}


def test_halves_keep_units_whole():
    test = datasets.crop_insurance()
    halves = test.halves(np.random.default_rng(1))
    assert pd.Series(halves).groupby(test.unit).nunique().max() == 1
    assert 0.4 < np.mean(halves == "A") < 0.6


def test_fragments_belong_to_somebody():
    customers = [f"c-{n}" for n in range(5_000)]
    sources = crm, web, app = fragments.split(customers, np.random.default_rng(1))
    assert list(crm.truth) == customers
    for source in sources:
        assert source.table[source.key].is_unique and len(source.table) == len(source.clean) == len(source.truth)
        assert set(source.truth) <= set(customers) and {*source.fields, source.key} == {*source.table}
    # Where a profile names its customer, the truth agrees; and there is something to get wrong.
    named = web.table["customer_number"].notna()
    assert (web.table["customer_number"][named] == web.truth[named]).all() and 0.2 < named.mean() < 0.5
    assert (crm.table["phone"].value_counts() == 2).sum() > 20
    placeholders = set(sum(fragments.PLACEHOLDERS.values(), []))
    assert sum(source.table.isin(placeholders).to_numpy().sum() for source in sources) > 20
    assert not any(source.clean.isin(placeholders).to_numpy().any() for source in sources)
    # Customers' own identifiers link most of their fragments, and never two customers.
    truth = np.concatenate([source.truth for source in sources])
    possible = fragments.pairwise_scores(truth, fragments.linked(sources))
    assert possible.precision == 1 and 0.8 < possible.recall < 0.98


def test_fragments_are_the_same_every_time():
    first, second = (fragments.split(["a", "b", "c"] * 50, np.random.default_rng(7)) for _ in range(2))
    assert all(a.table.equals(b.table) for a, b in zip(first, second))


def test_pairwise_scores():
    # Truth {1 2 3} {4 5}: four pairs. Found {1 2} {3 4} {5}: two pairs, one of them right.
    scores = fragments.pairwise_scores("aaabb", "xxyyz")
    assert (scores.precision, scores.recall, scores.f1) == pytest.approx((1 / 2, 1 / 4, 1 / 3))
    assert fragments.pairwise_scores("abc", "xyz") == fragments.Scores(1.0, 1.0)


def test_the_model_finds_the_effect_it_was_given():
    rng = np.random.default_rng(3)
    features = pd.DataFrame(
        {"age": rng.normal(50, 10, 40_000), "member": rng.random(40_000) < 0.5, "city": rng.choice(["x", "y"], 40_000)}
    )
    assigned = rng.choice([datasets.NO_SEND, "letter"], 40_000)
    logit = -1.5 + 0.3 * (features["city"] == "y") + (assigned == "letter") * (0.4 + 0.8 * features["member"])
    responded = rng.random(40_000) < 1 / (1 + np.exp(-logit))
    model = responses.ResponseModel.fit(features, assigned, responded)
    p = model.probabilities(features)
    truth = 1 / (1 + np.exp(-logit))
    assert np.abs(responses.pick(p, assigned) - truth).mean() < 0.01
    lift = p["letter"] - p[datasets.NO_SEND]
    assert lift[features["member"]].mean() > lift[~features["member"]].mean() + 0.1


def test_missing_values_are_average():
    features = pd.DataFrame({"age": [20.0, np.nan, 40.0], "member": np.array([True, False, None], dtype=object)})
    x = responses.Encoder.fit(features).encode(features)
    assert x[1, 1] == pytest.approx(0) and x[2, 2] == pytest.approx(0)


@pytest.mark.parametrize(
    "learned, finding", [(0.182, "no difference"), (0.18, "no difference"), (0.3, "better"), (0.1, "worse")]
)
def test_the_verdict_minds_the_uncertainty(learned, finding):
    others = {"always a": (0.181, 0.004), "always no_send": (0.1, 0.003), "random": (0.14, 0.002)}
    said = demo.verdict({"learned": (learned, 0.004), **others})
    assert finding in said and "always a" in said

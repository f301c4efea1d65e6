"""The part about a head: true quantities as a plain loop finds them, and a sentence for what does not apply."""

import re
from html import unescape

import numpy as np
import pytest
import torch
from made_up_tracks import made_up_events

from frz.config import StrictModel
from frz.evaluation.head_section import field_pieces, head_pieces, true_quantities, units_of
from frz.heads.contract import Head
from frz.heads.regression import RegressionConfig, RegressionHead
from frz.store.schema import Array, Axis, Schema
from frz.store.table import EventTable

N_QUERY = 3
META = {name: Array(dtype="int64", role="meta") for name in ("event/id", "event/group")}
SCHEMA = Schema(
    axes={"hit": Axis(), "track": Axis(), "member": Axis(parent="track"), "query": Axis(length=N_QUERY)},
    arrays=META
    | {
        "query/embedding": Array(dtype="float32", shape=(4,), role="feature"),
        "query/valid_logit": Array(dtype="float32", role="feature"),
        "query/match": Array(dtype="int32", role="target"),
        "hit/assignment_logit": Array(dtype="float32", shape=(N_QUERY,), role="feature"),
        "member/hit": Array(dtype="int32", role="target", refers_to="hit"),
        "track/parameters": Array(
            dtype="float32", shape=(4,), role="target", unit="GeV, 1, rad, e", columns=("pt", "eta", "phi", "q")
        ),
    },
)


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch):
    """Leave out the drawing, which takes most of the time: these tests count figures and read words."""
    monkeypatch.setattr("frz.evaluation.page.png", lambda figure: b"")


def made_up_features(n_events=60, seed=0):
    rng = np.random.default_rng(seed)
    events = made_up_events(seed, n_events, N_QUERY)
    n = int(events["track/offsets"][-1])
    columns = rng.uniform(5, 80, n), rng.normal(size=n), rng.uniform(-3, 3, n), rng.choice([-1.0, 1.0], n)
    events["track/parameters"] = np.stack(columns, 1).astype(np.float32)
    events["query/embedding"] = rng.normal(size=(n_events * N_QUERY, 4)).astype(np.float32)
    return EventTable(SCHEMA, events)


def fitted(store, **config):
    torch.manual_seed(0)
    head = RegressionHead(RegressionConfig(hit_nets=(), **config), store.schema).eval()
    head.fit([head.prepare(store.arrays)])
    return head


def text_of(head, store, positions=None, split="test"):
    positions = np.arange(store.n_events) if positions is None else positions
    return plain("".join(head_pieces(head, store, positions, split)))


def plain(html):
    return unescape(re.sub(r"<[^>]+>", " ", html))


class EventHead(Head):
    """The number of hits of an event, which has neither pT nor eta."""

    class Config(StrictModel):
        pass

    def __init__(self):
        super().__init__(self.Config(), SCHEMA)
        self.scale = torch.nn.Parameter(torch.ones(()))

    needs = ("event/id", "event/group", "hit/assignment_logit")
    prepared = Schema(arrays=META | {"event/size": Array(dtype="float32"), "event/hidden": Array(dtype="float32")})

    def prepare(self, events):
        size = np.diff(events["hit/offsets"]).astype(np.float32)
        return {name: events[name] for name in META} | {"event/size": size, "event/hidden": size}

    def forward(self, batch):
        return batch["event/hidden"] * self.scale

    def loss(self, batch):
        return self(batch).mean(), {}

    def predict(self, batch):
        return {"event/size": self(batch).detach() + 0.5, "event/other": self(batch).detach()}

    def metrics(self, predictions, prepared):
        return {"size/bias": float((predictions["event/size"] - prepared["event/size"]).mean())}


@pytest.mark.parametrize("fields", [("eta", "phi", "pt", "q"), ("q",)])
def test_true_quantities_are_those_of_the_matched_track(fields):
    store = made_up_features()
    positions = np.array([7, 3, 30, 3, 59])
    head = fitted(store, fields=fields, bce_fields=("q",))
    prepared = head.prepare(store.events(positions))
    found = true_quantities(prepared, head.prepared, store, positions)["slot"]
    events = store.arrays
    n_checked = 0
    for place, event in enumerate(positions):
        for slot in range(prepared["slot/offsets"][place], prepared["slot/offsets"][place + 1]):
            track = events["query/match"][event * N_QUERY + prepared["slot/query"][slot]]
            if track < 0:
                assert not prepared["slot/counts"][slot]
                continue
            pt, eta = events["track/parameters"][events["track/offsets"][event] + track, :2]
            assert (found["pt"][slot], found["eta"][slot]) == (pt, eta)
            n_checked += 1
    assert n_checked > 3


def test_every_field_has_its_metrics_and_its_plots():
    store = made_up_features()
    head = fitted(store, inverse_fields=("pt",), bce_fields=("q",))
    html = "".join(head_pieces(head, store, np.arange(60), "test"))
    text = plain(html)
    n = int((store.arrays["query/match"] >= 0).sum())
    # Histogram, scatter and two widths of three numbers; two accuracies of the charge.
    assert html.count("<img") == 3 * 4 + 2
    assert text.count(f"Residuals of the {n:,} slots that count in the split 'test'") == 3
    assert "pT [GeV]" in text
    assert "Over all: head 0." in text
    assert "Not binned" not in text
    right = head.metrics(head.predict_mean(head.prepare(store.arrays)), head.prepare(store.arrays))["q/accuracy"]
    assert f"training mean {right:.2f}" in text


def test_a_head_of_the_charge_alone_is_still_binned_by_the_true_pt():
    store = made_up_features()
    html = "".join(head_pieces(fitted(store, fields=("q",), bce_fields=("q",)), store, np.arange(60), "test"))
    assert html.count("<img") == 2
    assert "accuracy of q against true pt" in html


def test_what_cannot_be_binned_is_a_sentence():
    store = made_up_features()
    text = text_of(EventHead(), store)
    assert "Not binned by pT and η: the true value is not known here" in text
    assert "Residuals of the 60 events that count" in text
    assert "median 0.500" in text


def test_bins_follow_the_unit_of_pt():
    store = made_up_features()
    arrays = store.schema.arrays
    parameters = arrays["track/parameters"].model_copy(update={"unit": "MeV, 1, rad, e"})
    in_mev = store.schema.model_copy(update={"arrays": arrays | {"track/parameters": parameters}})
    text = text_of(fitted(EventTable(in_mev, store.arrays), inverse_fields=("pt",)), EventTable(in_mev, store.arrays))
    n = int((store.arrays["query/match"] >= 0).sum())
    assert "pT [MeV]" in text
    # All lie in the first bin, 0 to 200 MeV; bins in GeV would leave some of them in bins too small for a width.
    assert f"in bins of true pT, over {n} of {n} slots" in text
    assert "12 bins with fewer than 10 slots are left out" in text


def test_no_events_and_no_truth_are_sentences():
    store = made_up_features()
    head = fitted(store)
    assert "The split 'val' holds no events" in text_of(head, store, np.zeros(0, np.int64), "val")
    alone = np.flatnonzero(np.diff(store.arrays["track/offsets"]) == 0)
    assert len(alone) > 1
    assert text_of(head, store, alone).count("No slot counts: there is nothing to plot.") == 4


def test_too_few_slots_for_a_width_are_told():
    store = made_up_features()
    positions = np.flatnonzero(np.diff(store.arrays["track/offsets"]) == 2)[:2]
    text = text_of(fitted(store), store, positions)
    assert text.count("Head: too few for a width (least 10)") == 3
    assert "nan" not in text


def test_numbers_that_are_not_finite_are_told():
    store = made_up_features()
    head = fitted(store, fields=("eta",))
    with torch.no_grad():
        head.net[-1].bias.fill_(torch.nan)
    n = int((store.arrays["query/match"] >= 0).sum())
    text = text_of_field(head, store)
    assert f"{n} slots are left out because the truth or a prediction is not finite" in text


def text_of_field(head, store):
    from frz.evaluation.fields import compare
    from frz.heads.run import predict

    table = EventTable(head.prepared, head.prepare(store.arrays))
    (field,) = compare(predict(head, table, np.arange(60)), {}, table.arrays, head.prepared, {}, {})
    return plain("".join(field_pieces(field, {}, "test")))


def test_units_are_those_of_the_columns_and_of_ratios():
    units = units_of(SCHEMA)
    assert units["pt"] == "GeV"
    assert units["phi"] == "rad"
    assert units["q_over_pt"] == "e/GeV"
    assert units["eta_over_pt"] == "1/GeV"
    assert "eta" not in units
    assert "pt_over_eta" not in units

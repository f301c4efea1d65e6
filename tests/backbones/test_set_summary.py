"""Several small nets on what is known at the end of a stay."""

import itertools

import numpy as np
import pytest
import torch
from icu_events import CONSTANTS, SCHEMA, VARIABLES, batch_of, make_events

from frz.backbones.set_sequence.levels import PARTS, TRENDS, levels, observations, trends
from frz.backbones.set_sequence.model import SetSequence
from frz.backbones.set_sequence.settings import SetSequenceConfig
from frz.config import parse
from frz.errors import ConfigError

SUPERVISED = {"labels": {"event/label": 1.0}, "scores": {"event/saps": 0.5}}


def build(members=3, static=True, graded=None, **summary):
    torch.manual_seed(0)
    config = parse(
        SetSequenceConfig,
        {
            "dim": 8,
            "static": static,
            "supervised": SUPERVISED,
            "summary": {"members": members, "hidden": 6, "width": 4, **summary},
            "graded": graded or {},
        },
        "model",
    )
    model = SetSequence(config, SCHEMA)
    model.fit([make_events([20, 30, 25], seed=9) | CONSTANTS])
    return model.eval()


def known_at_the_end(model, events):
    """(E, 9 V): levels after the last set of each stay and trends, one stay at a time; zeros without a set."""
    rows = []
    bounds = itertools.pairwise(events["set/offsets"])
    for begin, end in bounds:
        a, b = events["element/offsets"][[begin, end]]
        variable = torch.from_numpy(events["element/variable"][a:b].astype(np.int64))
        scaled = model.tokens.scale(variable, torch.from_numpy(events["element/value"][a:b]))
        sizes = torch.from_numpy(np.diff(events["element/offsets"][begin : end + 1]))
        owner = torch.repeat_interleave(torch.arange(end - begin), sizes)
        value, count = observations(variable, scaled, owner, int(end - begin), len(VARIABLES))
        minute = torch.from_numpy(events["set/minute"][begin:end])
        if begin == end:
            rows.append(torch.zeros((PARTS + TRENDS) * len(VARIABLES)))
        else:
            observed = value[None], count[None], minute[None]
            rows.append(torch.cat((levels(*observed)[0, -1], trends(*observed)[0])))
    return torch.stack(rows)


def test_members_read_levels_at_the_end_trends_and_static_columns():
    model = build()
    events = make_events([7, 0, 30])
    found = model(batch_of(events))["event/summary"].detach()
    static = model.statics.columns(torch.from_numpy(events["event/static"]))
    known = torch.cat((known_at_the_end(model, events), static), 1)
    for k, units in enumerate(found.view(3, 3, 4).unbind(1)):
        inner, outer = model.summaries[0].inner, model.summaries[0].outer
        hidden = torch.nn.functional.silu(known @ inner.weight[k] + inner.bias[k])
        expected = torch.nn.functional.silu(hidden @ outer.weight[k] + outer.bias[k])
        torch.testing.assert_close(units, expected.detach(), rtol=1e-4, atol=1e-5)


def test_without_static_columns_members_read_the_variables_alone():
    model = build(static=False)
    assert model.summaries[0].inner.weight.shape == (3, (PARTS + TRENDS) * len(VARIABLES), 6)
    assert model(batch_of(make_events([4, 9])))["event/summary"].shape == (2, 12)


def test_members_learn_apart():
    model = build(dropout=0.0, input_dropout=0.0)
    batch = batch_of(make_events([7, 12, 5, 9]))
    parts = model.loss(batch)[1]
    losses = []
    for k in range(3):
        units = model(batch)["event/summary"].view(4, 3, 4)[:, k]
        answer = units @ model.summaries[0].answers.weight[k] + model.summaries[0].answers.bias[k]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(answer[:, 0], batch["event/label"].float())
        losses.append(loss.detach())
    torch.testing.assert_close(parts["label/summary"], torch.stack(losses).mean())
    assert "saps/summary" in parts

    units = model._encode(batch, model._elements(batch)).summaries[0]
    model.summaries[0].answer(units)[1].sum().backward()
    of_members = model.summaries[0].inner.weight.grad.abs().sum((1, 2))
    assert of_members[1] > 0
    assert not of_members[[0, 2]].any()


def test_a_stay_without_the_target_teaches_members_nothing():
    model = build()
    events = make_events([7, 12])
    unknown = {**events, "event/label": np.full(2, -1, np.int16)}
    assert model.loss(batch_of(unknown))[1]["label/summary"] == 0


def test_states_do_not_feel_the_members():
    one, other = build(members=3), build(members=3)
    for value in other.summaries.parameters():
        torch.nn.init.zeros_(value)
    batch = batch_of(make_events([7, 12]))
    assert torch.equal(one(batch)["event/pooled"], other(batch)["event/pooled"])


def test_members_without_a_target_are_refused():
    with pytest.raises(ConfigError, match="no target trains its members"):
        parse(SetSequenceConfig, {"summary": {"members": 2}}, "model")


def test_without_members_there_is_no_such_feature():
    assert "event/summary" not in build(members=0).outputs
    assert build(members=3).outputs["event/summary"].shape == (12,)


def test_members_by_grades_read_values_that_were_measured():
    model = build(members=0, graded={"members": 2, "hidden": 6, "width": 3})
    events = make_events([7, 0, 30])
    end = known_at_the_end(model, events)
    static = model.statics.columns(torch.from_numpy(events["event/static"]))
    nets, (last, mean, least, greatest, often, _, first, _, _) = model.summaries[0], end.split(len(VARIABLES), 1)
    values = torch.cat((last, mean, least, greatest, first), 1)
    of_values = nets.grades(values, (often > 0).repeat(1, 5))
    of_static = nets.grades(static[:, :5], static[:, 5:] == 0)
    read = torch.cat((of_values, of_static, (often > 0).float(), often, static), 1)
    torch.testing.assert_close(nets.read(end, static), read)
    assert read.shape[1] == nets.n_column
    found = model(batch_of(events))["event/summary"]
    expected = torch.cat(nets(end, static).unbind(0), 1)
    torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-4, atol=1e-5)


def test_units_by_grades_stand_behind_the_others():
    model = build(graded={"members": 2, "hidden": 6, "width": 3})
    batch = batch_of(make_events([7, 9]))
    plain, graded = model._encode(batch, model._elements(batch)).summaries
    found = model(batch)["event/summary"]
    assert found.shape == (2, 3 * 4 + 2 * 3)
    assert torch.equal(found[:, 4:8], plain[1])
    assert torch.equal(found[:, 15:], graded[1])
    assert model.loss(batch)[1]["label/summary"] > 0

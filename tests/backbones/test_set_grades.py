"""Values by grades against their definition."""

import torch

from frz.backbones.set_sequence.grades import FAR, GRADES, PROBABILITIES, SOFT, Grades


def test_a_grade_is_the_share_of_its_class_that_lies_below():
    cuts = [-FAR, *torch.special.ndtri(torch.tensor(PROBABILITIES)).tolist(), FAR]
    grades = Grades()
    values = torch.tensor([-9.0, -0.3, cuts[2], 2.0, 9.0])[:, None]
    found = grades(values, torch.ones(5, 1)) * grades.width + grades.centre
    expected = [
        [min(max((x - a) / (b - a), 0.0), 1.0) for a, b in zip(cuts, cuts[1:], strict=False)]
        for x in values[:, 0].tolist()
    ]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)


def test_grades_of_normal_values_have_mean_0_and_width_below_1():
    torch.manual_seed(0)
    grades = Grades()
    found = grades(torch.randn(200_000, 1), torch.ones(200_000, 1))
    torch.testing.assert_close(found.mean(0), torch.zeros(GRADES), rtol=0, atol=0.01)
    torch.testing.assert_close(found.std(0), (grades.width - SOFT) / grades.width, rtol=0, atol=0.01)


def test_an_unknown_value_has_grades_0_and_columns_keep_their_place():
    values = torch.tensor([[0.4, -1.0], [2.0, 0.1]])
    known = torch.tensor([[True, False], [False, True]])
    grades = Grades()
    found = grades(values, known).view(2, 2, GRADES)
    assert not found[known.logical_not()].any()
    alone = grades(values[:1, :1], torch.ones(1, 1))
    torch.testing.assert_close(found[0, 0], alone[0])

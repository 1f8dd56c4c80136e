"""Teachers follow exactly, are never trained, and their momentum rises as BYOL's does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ssl_jets.nn.ema import follow, rising, teacher_of


def student_with_buffer() -> nn.Module:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    student[1].running_mean.fill_(5.0)
    return student


def test_a_teacher_is_a_copy_of_its_own_that_takes_no_gradient() -> None:
    student = student_with_buffer()
    teacher = teacher_of(student)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    with torch.no_grad():
        student[0].weight.add_(1.0)
    assert not torch.equal(teacher[0].weight, student[0].weight)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_a_teacher_moves_to_the_weighted_mean_and_copies_buffers(momentum: float) -> None:
    student = student_with_buffer()
    teacher = teacher_of(student)
    before = {name: value.clone() for name, value in teacher.named_parameters()}
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    student[1].running_mean.fill_(-3.0)
    follow(teacher, student, momentum)
    for (name, weight), newer in zip(teacher.named_parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(weight, momentum * before[name] + (1 - momentum) * newer)
    assert teacher[1].running_mean.tolist() == [-3.0, -3.0]


def test_many_steps_give_the_closed_form() -> None:
    student = nn.Linear(1, 1, bias=False)
    teacher = teacher_of(student)
    values = [0.3, -1.0, 2.0, 0.5]
    expected = float(student.weight.detach())
    for value in values:
        student.weight.data.fill_(value)
        follow(teacher, student, 0.7)
        expected = 0.7 * expected + 0.3 * value
    assert float(teacher.weight) == pytest.approx(expected, rel=1e-6)


def test_the_momentum_rises_by_a_half_cosine_from_its_start_to_one() -> None:
    # 1 - (1 - m0) (cos(pi k / K) + 1) / 2, arXiv:2006.07733, appendix J
    assert rising(0.99, 0.0) == pytest.approx(0.99)
    assert rising(0.99, 0.5) == pytest.approx(0.995)
    assert rising(0.99, 0.25) == pytest.approx(1 - 0.01 * (math.sqrt(0.5) + 1) / 2)
    assert rising(0.99, 1.0) == 1.0
    steps = [rising(0.9, step / 100) for step in range(101)]
    assert steps == sorted(steps)

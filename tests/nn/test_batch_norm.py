"""Batch normalisation is torch's with the statistics of the batch, in values and gradients, and needs no second jet."""

from __future__ import annotations

import torch

from ssl_jets.nn.normalize import BatchNorm


def test_it_is_torchs_batch_norm_in_training_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(4), torch.nn.BatchNorm1d(4)
    for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        parameter.data.normal_()
        other.data.copy_(parameter.data)
    values = (3 * torch.randn(6, 4) + 5).requires_grad_()
    copy = values.detach().clone().requires_grad_()
    weights = torch.randn(6, 4)
    (ours(values) * weights).sum().backward()
    (theirs(copy) * weights).sum().backward()
    torch.testing.assert_close(ours(values), theirs(copy))
    torch.testing.assert_close(values.grad, copy.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_evaluation_changes_nothing_and_there_are_no_running_statistics() -> None:
    torch.manual_seed(0)
    layer, values = BatchNorm(4), torch.randn(6, 4)
    before = layer(values)
    assert torch.equal(layer.eval()(values), before)
    assert not list(layer.buffers())


def test_a_single_jet_and_a_constant_become_the_shift() -> None:
    layer = BatchNorm(3)
    layer.bias.data.fill_(2.0)
    for values in (torch.randn(1, 3), torch.full((5, 3), 7.0)):
        values.requires_grad_()
        out = layer(values)
        torch.testing.assert_close(out, torch.full_like(out, 2.0))
        out.sum().backward()
        assert values.grad is not None
        assert values.grad.isfinite().all()

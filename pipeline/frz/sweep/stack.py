"""K heads of one shape as one module: parameters (K, ...), one forward and one backward for all of them.

Every head sees what it would see alone: its initial weights, its constants, and its own dropout masks, drawn from
its own generator in the order in which torch draws them for a head trained alone. Heads never mix: what is not
finite in one stays in it.
"""

# Axes: K heads.

import copy
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from frz.heads.contract import Batch, Head
from frz.sweep.layers import convert

PREFIX = "head."


class _Loss(nn.Module):
    """The loss of a head as a forward, which is what `functional_call` calls."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        return self.head.loss(batch)


class Masks:
    """Dropout masks of K heads, as `nn.Dropout` draws them on a CPU for a run with this seed.

    Parameters
    ----------
    seeds : sequence of int
        One per head (K).
    rates : mapping
        Dropout probabilities (K) of each dropout layer.
    device : torch.device
        On a GPU torch draws alone what no generator of ours can repeat: masks are of the same law, but not the same.
    """

    def __init__(self, seeds: Sequence[int], rates: Mapping[str, Sequence[float]], device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._rates = {name: list(values) for name, values in rates.items()}
        self._device = device

    def draw(self, layer: str, shape: torch.Size) -> Tensor:
        """Masks (K, *shape), 0 or 1 / (1 - p); a head with p = 0 draws nothing."""
        rates = self._rates[layer]
        masks = torch.empty((len(rates), *shape), device=self._device)
        for mask, p, generator in zip(masks.unbind(), rates, self._generators, strict=True):
            if p:
                mask.bernoulli_(1 - p, generator=generator)
            else:
                mask.fill_(1)
        kept = torch.tensor([1 - p for p in rates], device=self._device)
        return masks.div_(kept.view(-1, *(1,) * len(shape)))

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these heads."""
        self._generators = [self._generators[row] for row in rows]
        self._rates = {name: [values[row] for row in rows] for name, values in self._rates.items()}


class Stack:
    """Heads that differ in numbers alone: weights, constants, dropout rates.

    Parameters
    ----------
    heads : sequence of Head
        Fitted, with their initial weights; they are copied.
    seeds : sequence of int
        Of each head's dropout.
    device : torch.device
        Where to train.
    """

    def __init__(self, heads: Sequence[Head], seeds: Sequence[int], device: torch.device) -> None:
        self.module = _Loss(copy.deepcopy(heads[0])).to(device)
        named = [(dict(head.named_parameters()), dict(head.named_buffers())) for head in heads]
        self.parameters: dict[str, Tensor] = {}
        for name, parameter in heads[0].named_parameters():
            stacked = torch.stack([parameters[name].detach() for parameters, _ in named]).to(device)
            self.parameters[PREFIX + name] = stacked.requires_grad_(parameter.requires_grad)
        # Constants that all heads share stay as they are: operations on them alone are done once.
        self.shared: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}
        moving = _moving_buffers(heads[0])
        for name, value in heads[0].named_buffers():
            values = [buffers[name] for _, buffers in named]
            if name in moving or not all(torch.equal(value, other) for other in values):
                self.buffers[PREFIX + name] = torch.stack(values).to(device)
            else:
                self.shared[PREFIX + name] = value.clone().to(device)
        self.n_heads = len(heads)
        self.masks = Masks(seeds, _rates(heads), device)
        convert(self.module, self.masks.draw, single=self.n_heads == 1)

    def train(self, mode: bool) -> None:
        """Draw dropout masks, or not."""
        self.module.train(mode)

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (K,) of every head, and named parts (K,) without gradient."""
        if self.n_heads == 1:
            every = {name: value.squeeze(0) for name, value in {**self.parameters, **self.buffers}.items()}
            loss, parts = self._one(every, {}, batch=batch)
            return loss.unsqueeze(0), {name: part.detach().unsqueeze(0) for name, part in parts.items()}
        call = partial(self._one, batch=batch)
        losses, parts = torch.vmap(call, randomness="error")(self.parameters, self.buffers)
        return losses, {name: part.detach() for name, part in parts.items()}

    def _one(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], *, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        found: tuple[Tensor, dict[str, Tensor]]
        found = functional_call(self.module, (parameters, buffers, self.shared), (batch,), strict=True)
        return found

    def state(self, row: int) -> dict[str, Tensor]:
        """The state dict of one head (views)."""
        every = {name: value.detach()[row] for name, value in {**self.parameters, **self.buffers}.items()} | self.shared
        return {name: every[PREFIX + name] for name in self.module.head.state_dict()}

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these heads, closed up."""
        for name, value in self.parameters.items():
            self.parameters[name] = value.detach()[rows].requires_grad_(value.requires_grad)
        self.buffers = {name: value[rows] for name, value in self.buffers.items()}
        self.masks.keep(rows)
        self.n_heads = len(rows)
        convert(self.module, self.masks.draw, single=self.n_heads == 1)


BUDGET = 128 << 20
"""Bytes of weights, moments and activations of the heads of one stack: more heads save fewer calls than they cost in
memory that no cache holds (measured by `benchmarks/sweep.py`)."""
LEAST = 4
"""Fewer heads than this are faster one by one."""


def stack_size(head: Head, batch: Batch) -> int:
    """Heads that are best trained as one stack, from what one forward of `head` keeps for its backward."""
    kept: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        loss, _ = copy.deepcopy(head).train().loss(batch)
    del loss
    n_parameters = sum(parameter.numel() for parameter in head.parameters())
    heads = BUDGET // (sum(kept.values()) + 16 * n_parameters)
    return heads if heads >= LEAST else 1


def _rates(heads: Sequence[Head]) -> dict[str, list[float]]:
    """Dropout probabilities (K) by layer, under the names that the layers have in a stack."""
    rates: dict[str, list[float]] = {}
    for head in heads:
        for name, part in head.named_modules(prefix=PREFIX.rstrip(".")):
            if isinstance(part, nn.Dropout):
                rates.setdefault(name, []).append(part.p)
    return rates


def _moving_buffers(head: Head) -> set[str]:
    """Buffers that a forward in training changes: the running statistics of norms."""
    moving = set()
    for prefix, part in head.named_modules():
        if isinstance(part, nn.modules.batchnorm._NormBase):
            moving |= {f"{prefix}.{name}" if prefix else name for name, _ in part.named_buffers(recurse=False)}
    return moving

"""K heads of one shape as one module: parameters (K, ...), one forward and one backward for all of them.

Heads that say that they can (`takes_stacked_rows`) run on stacked layers as they are, others under `torch.vmap`.

Every head sees what it would see alone: its initial weights, its constants, and its own dropout masks, drawn from
its own generator in the order in which torch draws them for a head trained alone. Heads never mix: what is not
finite in one stays in it.
"""

# Axes: K heads.

import copy
from collections.abc import Container, Mapping, Sequence
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from frz.heads.contract import Batch, Head
from frz.sweep.layers import Form, convert, is_known

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
        doubles = torch.empty(shape, dtype=torch.float64) if self._device.type == "cpu" and draws_doubles() else None
        for mask, p, generator in zip(masks.unbind(), rates, self._generators, strict=True):
            if not p:
                mask.fill_(1)
            elif doubles is None:
                mask.bernoulli_(1 - p, generator=generator)
            else:
                torch.lt(doubles.uniform_(generator=generator), 1 - p, out=mask)
        kept = torch.tensor([1 - p for p in rates], device=self._device)
        return masks.div_(kept.view(-1, *(1,) * len(shape)))

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these heads."""
        self._generators = [self._generators[row] for row in rows]
        self._rates = {name: [values[row] for row in rows] for name, values in self._rates.items()}


@cache
def draws_doubles() -> bool:
    """Whether `bernoulli_` is nothing but `uniform < p` in double precision, which is drawn faster so.

    Not on Intel's processors, where MKL draws it.
    """
    p, one, other = 0.5, torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    drawn = torch.empty(1000).bernoulli_(p, generator=one)
    return torch.equal(drawn, (torch.empty(1000, dtype=torch.float64).uniform_(generator=other) < p).float())


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
        frozen = {PREFIX + name for name, value in heads[0].named_parameters() if not value.requires_grad}
        stacked = {
            PREFIX + name: torch.stack([parameters[name].detach() for parameters, _ in named]).to(device)
            for name in named[0][0]
        }
        self.shapes = {name: value.shape[1:] for name, value in stacked.items() if name not in frozen}
        """Of one head's trainable parameters, in the order of the columns of `weights`."""
        self.weights = torch.cat([stacked[name].flatten(1) for name in self.shapes], 1)
        """Trainable parameters (K, P); `parameters` are views of it."""
        self._frozen = {name: stacked[name] for name in frozen}
        self.parameters = self._views()
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
        self._settle()

    def _settle(self) -> None:
        """Give the module the form that suits the heads there are."""
        self.form: Form = "single" if self.n_heads == 1 else "outright" if self._needs_no_vmap() else "vmap"
        convert(self.module, self.masks.draw, self.form)
        for name, value in self.parameters.items() if self.form == "outright" else ():
            owner, _, last = name.rpartition(".")
            self.module.get_submodule(owner)._parameters[last] = value  # type: ignore[assignment]

    def _needs_no_vmap(self) -> bool:
        owners = (part for part in self.module.modules() if part._parameters)
        return self.module.head.takes_stacked_rows and not self.buffers and all(is_known(part) for part in owners)

    def _views(self) -> dict[str, Tensor]:
        trained = {name: value.requires_grad_() for name, value in unpacked(self.weights, self.shapes).items()}
        return trained | self._frozen

    @property
    def trained(self) -> list[Tensor]:
        """Trainable parameters (K, ...), in the order of the columns of `weights`."""
        return [self.parameters[name] for name in self.shapes]

    def columns(self, names: Container[str]) -> list[slice]:
        """Columns of the named parameters, a slice each."""
        found: list[slice] = []
        end = 0
        for name, shape in self.shapes.items():
            begin, end = end, end + shape.numel()
            if name in names:
                found.append(slice(begin, end))
        return found

    def train(self, mode: bool) -> None:
        """Draw dropout masks, or not."""
        self.module.train(mode)

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss (K,) of every head, and named parts (K,) without gradient."""
        if self.n_heads == 1:
            every = {name: value.squeeze(0) for name, value in {**self.parameters, **self.buffers}.items()}
            loss, parts = self._one(every, {}, batch=batch)
            return loss.unsqueeze(0), {name: part.detach().unsqueeze(0) for name, part in parts.items()}
        if self.form == "outright":
            losses, parts = self.module(batch)
            return losses, parts
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
        self.weights = self.weights[rows]
        self._frozen = {name: value[rows] for name, value in self._frozen.items()}
        self.parameters = self._views()
        self.buffers = {name: value[rows] for name, value in self.buffers.items()}
        self.masks.keep(rows)
        self.n_heads = len(rows)
        self._settle()


def unpacked(flat: Tensor, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Parameters (K, *shape) by name that lie side by side in `flat` (K, P): views."""
    widths = [shape.numel() for shape in shapes.values()]
    columns = torch.split(flat.detach(), widths, 1)
    return {name: part.view(len(flat), *shape) for (name, shape), part in zip(shapes.items(), columns, strict=True)}


BUDGET = 128 << 20
"""Bytes of weights, moments and activations of the heads of one stack: more heads save fewer calls than they cost in
memory that no cache holds (measured by `benchmarks/sweep.py`)."""
LEAST = 4
"""Fewer heads than this are faster one by one."""
LEAST_FITTING = 8
"""Where fewer heads than this fit into the budget, each has so much arithmetic of its own that a stack is slower
(measured there too: 5 that fit take 1.28 of the time of heads one by one, 8 take 0.95)."""


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
    return heads if heads >= LEAST_FITTING else 1


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

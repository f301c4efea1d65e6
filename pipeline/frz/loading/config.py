"""How Stage 2 brings prepared events to its head."""

from typing import Literal

from frz.loading.order import OrderConfig


class LoadingConfig(OrderConfig):
    """The keys of `loading`. `prefix` and `residency` change no result, `block` and `shuffle_blocks` the order."""

    prefix: Literal["auto", "memory", "store"] = "auto"
    """Where what the head's `prepare` makes is kept: in memory, or as arrays beside the features, from which the next
    run starts at once. `auto` takes arrays that are there, else memory while they fit."""
    residency: Literal["auto", "device", "ram", "mapped"] = "auto"
    """Where prepared events lie while the head trains: on its device, in memory, or mapped from disk and read block
    by block. `auto` takes the first in which they fit."""

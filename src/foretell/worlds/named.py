"""A world by its name on the command line, with the options that it reads; an option that it does not read is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foretell.errors import ConfigError
from foretell.worlds.played import Played
from foretell.worlds.world import ActWorld, World

_ALL = ("size", "frames")
_LOOKS = ("texture", "shadows", "noise", "jitter", "renderer")
READS = {
    "physics": (*_ALL, "scenario", "part", "shapes", "violation", "gravity", *_LOOKS),
    "buoy": _ALL,
    "chance": _ALL,
    "rooms": (*_ALL, "policy", "layout", "hazards", "varied"),
    "pusht": (*_ALL, "policy"),
    "gym": (*_ALL, "policy"),
}
"""The options of `foretell record` that are about the world, by the world that reads them."""


def named_world(name: str, options: Mapping[str, Any]) -> World:
    """The world `name` (physics, buoy, chance, rooms, pusht or gym:ENV_ID) to record; `options` are those that were set.

    Raises ConfigError for an unknown name, an impossible value, and an option that the world does not read.
    """
    kind = name.partition(":")[0]
    if kind not in READS or (":" in name) != (kind == "gym"):
        raise ConfigError(
            f"world: got {name!r}, expected physics, buoy, chance, rooms, pusht or gym:ENV_ID (such as gym:Pendulum-v1)"
        )
    for option in options:
        if option not in READS[kind]:
            others = ", ".join(other for other, read in READS.items() if option in read)
            raise ConfigError(f"{name}: it does not read --{option}, which is for {others}; leave it out")
    if kind == "chance":
        from foretell.worlds.chance import Chance

        return Chance(**options)
    if kind == "physics":
        from foretell.worlds.physics import Physics

        return Physics(**options)
    if kind == "buoy":
        from foretell.worlds.buoy import Buoy

        return Buoy(**options)
    acting = {"policy", "frames"}
    world = acted_world(name, {key: value for key, value in options.items() if key not in acting})
    return Played(world, **{key: value for key, value in options.items() if key in acting})


def acted_world(name: str, options: Mapping[str, Any]) -> ActWorld:
    """The world `name` (rooms, pusht or gym:ENV_ID) to act in; `options` are fields of its config that were set."""
    kind, _, env = name.partition(":")
    if kind == "rooms":
        from foretell.worlds.rooms import Rooms, RoomsConfig

        return Rooms(RoomsConfig(**options))
    if kind == "pusht":
        from foretell.worlds.pusht import PushT, PushTConfig

        return PushT(PushTConfig(**options))
    if kind == "gym" and env:
        from foretell.worlds.gym import Gym, GymConfig

        return Gym(GymConfig(env=env, **options))
    raise ConfigError(f"world: got {name!r}, expected rooms, pusht or gym:ENV_ID (such as gym:Pendulum-v1)")

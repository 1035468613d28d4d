"""Worlds by name, as the command line asks for them: nothing that is asked for is left unread."""

import dataclasses
import inspect
import json

import pytest

from foretell.cli import main
from foretell.errors import ConfigError
from foretell.verbs import record
from foretell.worlds.buoy import Buoy
from foretell.worlds.chance import Chance
from foretell.worlds.named import READS, acted_world, named_world
from foretell.worlds.physics import Physics
from foretell.worlds.played import Played
from foretell.worlds.pusht import PushT
from foretell.worlds.rooms import Rooms, RoomsConfig


def test_names_make_worlds_with_their_options():
    assert named_world("physics", {"scenario": "thrown", "frames": 24}) == Physics(scenario="thrown", frames=24)
    assert named_world("chance", {"size": 32}) == Chance(size=32)
    assert named_world("buoy", {"frames": 12}) == Buoy(frames=12)
    rooms = named_world("rooms", {"layout": "four", "hazards": 1, "size": 32, "policy": "smooth", "frames": 9})
    assert repr(rooms) == repr(Played(Rooms(RoomsConfig(layout="four", hazards=1, size=32)), "smooth", 9))
    assert isinstance(acted_world("pusht", {"judge": "pose"}), PushT)


def test_every_option_of_record_is_read_by_some_world_and_means_its_default():
    asked = inspect.signature(record).parameters
    about = set(asked) - {"world", "out", "episodes", "seed", "workers", "lossless"}
    assert about == {option for read in READS.values() for option in read}
    for config, kind in ((Physics, "physics"), (RoomsConfig, "rooms"), (Played, "rooms")):
        for field in dataclasses.fields(config):
            if field.name in READS[kind] and field.name != "frames":
                assert asked[field.name].default == field.default, field.name


@pytest.mark.parametrize("name", ["room", "rooms:two", "gym", "gym:", ""])
def test_unknown_names_say_what_is_known(name):
    with pytest.raises(ConfigError, match=r"expected .*rooms.* gym:ENV_ID"):
        named_world(name, {})
    with pytest.raises(ConfigError, match=r"expected rooms, pusht or gym:ENV_ID"):
        acted_world("physics", {})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rooms", "--gravity", "3"], "rooms: it does not read --gravity, which is for physics; leave it out"),
        (["pusht", "--hazards", "1"], "pusht: it does not read --hazards, which is for rooms"),
        (["physics", "--policy", "random"], "physics: it does not read --policy, which is for rooms, pusht, gym"),
        (["chance", "--scenario", "thrown"], "chance: it does not read --scenario, which is for physics"),
        (["chance", "--noise", "0.1"], "chance: it does not read --noise, which is for physics"),
        (["rooms", "--hazards", "9"], "rooms hazards: got 9, expected 0 to 4"),
        (["rooms", "--layout", "four", "--varied"], "use layout two"),
        (["tooms"], "got 'tooms', expected physics, buoy, chance, rooms, pusht or gym:ENV_ID"),
    ],
)
def test_what_cannot_be_recorded_is_one_clear_line(words, says, tmp_path, capsys):
    assert main(["record", *words, "--out", f"{tmp_path}/out"]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_verb_records_what_is_done(tmp_path, capsys):
    words = ["--policy", "scripted", "--layout", "four", "--hazards", "2", "--episodes", "2", "--frames", "12"]
    assert main(["record", "rooms", *words, "--size", "32", "--out", f"{tmp_path}"]) == 0
    assert "2 videos, 24 frames, actions.parquet and states.parquet" in capsys.readouterr().out
    held = json.loads((tmp_path / "recording.json").read_text())
    assert held["actions"]["high"] == [0.5, 0.5]
    assert "layout='four'" in held["world"]

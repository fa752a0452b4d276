"""One module per door; its attribute `DOOR` is a `tests.fuzz.frame.Door`.

A minimal module of a door::

    def case(random: Random, folder: Path) -> None:
        path = folder / "weights.pt"
        path.write_bytes(damaged(random, valid_bytes()))
        check_refused(command("show", path), path.name)


    DOOR = Door("weights", full=8_000, ci=50, case=case)
"""

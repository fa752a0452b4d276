"""Everything a command can do, from Python. `harness` offers these functions under its own name and imports them when they are used."""

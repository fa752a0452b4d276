"""Names of training and pruning methods, as their authors or benchmarks call them; records and CSV files have the keys."""

from __future__ import annotations

NAMES = {
    "chen2022-flying-bird": "FlyingBird",
    "chen2022-flying-bird-plus": "FlyingBird+",
    "chen2022-robust-bird": "Robust Bird",
    "courbariaux2015": "BinaryConnect",
    "cui2021": "LBGAT",
    "diffenderfer2021": "Biprop",
    "eed2025": "EED",
    "fu2021": "RST",
    "fu2021-r2s": "R2S",
    "gui2019": "ATMC",
    "han2015": "LWM",
    "jacob2018": "int8",
    "jian2022": "PwoA",
    "lee2022": "MAD",
    "li2020": "Li et al. 2020",
    "li2022": "STAT",
    "li2023": "TwinRep",
    "liu2022": "pruned binary",
    "madry2018": "PGD-AT",
    "ozdenizci2021": "BCS",
    "rice2020": "PGD-AT, early stopping",
    "sehwag2020": "HYDRA",
    "wang2020": "MART",
    "wu2020": "AWP",
    "ye2019": "R-ADMM",
    "zhang2019": "TRADES",
    "zhao2023": "HARP",
}


def method_name(key: str) -> str:
    """Return the name of a method, or the key itself if it is unknown, such as that of a user's own method."""
    return NAMES.get(key, key)

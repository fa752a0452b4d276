"""CIFAR-10 and CIFAR-100 as kinds of data."""

from fractions import Fraction

from harness.datasets.base import DataKind

CIFAR10_KIND = DataKind("cifar10", 10, (3, 32, 32), {"Linf": Fraction(8, 255)}, "cifar10", "cifar10-sample")
# The paper's radius; most others use 8/255.
CIFAR100_KIND = DataKind("cifar100", 100, (3, 32, 32), {"Linf": Fraction(4, 255)}, "cifar100", "cifar100-sample")

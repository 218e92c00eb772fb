"""The conditioner keeps the contract that every conditioner keeps."""

from voxella.testing import ConditionerContract


class TestAge(ConditionerContract):
    """Three lines; pytest finds the checks in the base class."""

    plugin = "age"

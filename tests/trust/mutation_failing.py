"""A suite that fails without any mutant: its runner must refuse to judge by it."""


def test_that_fails():
    raise AssertionError

"""A failing recipe made small: steps, sizes and options that do not matter are taken out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from benchmarks.fuzzing.recipe import Recipe

Fails = Callable[[Recipe], bool]


def shrink(recipe: Recipe, fails: Fails, tries: int = 200) -> Recipe:
    """The smallest recipe found for which ``fails`` is true; at most ``tries`` are asked.

    ``fails(recipe)`` is true at the start. Greedy: each simpler recipe that still fails is taken,
    and the search begins anew from it.
    """
    left = tries
    while True:
        for simpler in _simpler(recipe):
            if left == 0:
                return recipe
            left -= 1
            if fails(simpler):
                recipe = simpler
                break
        else:
            return recipe


def _simpler(recipe: Recipe) -> Iterator[Recipe]:
    """Large steps first: halves of the steps, single steps, options, sizes, the head."""
    steps = recipe.steps
    for cut in (steps[len(steps) // 2 :], steps[: len(steps) // 2]):
        if 0 < len(cut) < len(steps):
            yield replace(recipe, steps=cut)
    for gone in reversed(range(len(steps))):
        yield replace(recipe, steps=steps[:gone] + steps[gone + 1 :])
    for option in recipe.config:
        if option != "samples":
            config = {k: v for k, v in recipe.config.items() if k != option}
            yield replace(recipe, config=config)
    for side in ("batch", "channels", "height", "width"):
        length = getattr(recipe, side)
        for smaller in sorted({1, length // 2, length - 1}):
            if 0 < smaller < length:
                yield replace(recipe, **{side: smaller})
    if recipe.head != "as_is":
        yield replace(recipe, head="as_is")

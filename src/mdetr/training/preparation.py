"""Preparation of a run's data, without the records that the model cannot take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mdetr.data.held_out import check_disjoint, open_store
from mdetr.data.mixture import Mixture, training_data
from mdetr.data.skipping import TRAINING, BrokenExamples, without_unusable
from mdetr.data.unusable import count_crowded, scored_tasks
from mdetr.errors import RecipeError
from mdetr.evaluation.evaluator import Validation
from mdetr.training.ema import start_fraction
from mdetr.training.learner import Learner
from mdetr.training.recipe import Recipe
from mdetr.training.schedules import total_steps

_BY_RECORD = ("phrase_grounding", "referring", "question_answering", "segmentation")
MAX_START_FRACTION = 0.1  # of the start weights in the saved average, above which a run is warned


@dataclass(frozen=True)
class RunData:
    """The training examples of a run, and its validations by name."""

    mixture: Mixture
    validations: dict[str, Validation]


def prepare_data(
    recipe: Recipe, learner: Learner, say: Callable[[str], object], broken: BrokenExamples | None = None
) -> RunData:
    """Open the data of a recipe without the records that the model cannot take.

    Args:
        recipe: Names the data.
        learner: What is trained on them.
        say: Called with a sentence for each thing that a person should know before the run starts.
        broken: The list of what is left out; None to list nothing.

    Raises:
        TrainingError: More than 1 % of the records cannot be used.
        RecipeError: There is nothing to train on, or training and validation share images.
    """
    validations: dict[str, Validation] = {}
    for name, entry in recipe.data.validation.items():
        validations[name] = validation = Validation.open(entry, learner.processor, name, broken)
        if validation.note is not None:
            say(validation.note)
        fitting = scored_tasks(validation.dataset.store)
        if fitting and set(entry.tasks) <= set(_BY_RECORD) - set(fitting):
            say(
                f"Warning: the records of {name} say nothing that {', '.join(entry.tasks)} could score; set "
                f"data.validation.{name}.tasks=[{', '.join(fitting)}]."
            )
    opened = list(map(open_store, recipe.data.train))
    stores, note = without_unusable(TRAINING, opened, learner.unusable, broken)
    if note is not None:
        say(note)
    check_disjoint(recipe.data)

    if learner.num_queries is not None:
        crowded = sum(count_crowded(store, learner.num_queries) for store in stores)
        if crowded:
            have = "1 text has" if crowded == 1 else f"{crowded:,} texts have"
            say(
                f"{have} more boxes than the model has queries ({learner.num_queries}): in each step as many "
                "boxes as queries are learned; set model.config.num_queries higher to learn all."
            )
    mixture = training_data(recipe.data, recipe.seed, learner.image_size, stores)
    if not len(mixture):
        raise RecipeError("There are no records to train on in any store of data.train; name others.")
    if recipe.ema is not None:
        steps = total_steps(recipe.optimizer, len(mixture))
        fraction = start_fraction(steps, recipe.ema.decay, recipe.ema.ramp)
        if fraction > MAX_START_FRACTION:
            say(
                f"Warning: after {steps:,} steps the average of the weights, which is saved, will still hold "
                f"{fraction:.1%} of those that are started from: set ema.ramp=true or a lower ema.decay, or "
                "train for more steps."
            )
    return RunData(mixture, validations)

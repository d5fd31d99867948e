"""`LabeledData`: the labels of all images of a finished run, for the writers of formats and reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mdetr.labeling.plan import LabelPlan
from mdetr.labeling.results import ImageLabels, read_results


@dataclass(frozen=True, slots=True)
class LabeledData:
    """The labels of a plan whose parts are all done; they are read from disk, a part at a time.

    Attributes:
        plan: The plan.
    """

    plan: LabelPlan

    @property
    def folder(self) -> Path:
        """Folder of the data set; images are in its `images/`."""
        return self.plan.folder

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty if each image has captions."""
        return self.plan.settings.class_names

    @property
    def margin(self) -> float:
        """Distance from its threshold up to which a score counts as unsure."""
        return self.plan.settings.margin

    def __iter__(self) -> Iterator[ImageLabels]:
        for part in range(self.plan.num_parts):
            yield from read_results(self.plan.result_file(part))

    def usable_images(self) -> Iterator[ImageLabels]:
        """Yield the labels of each image, or of each caption, without the images that cannot be used."""
        for labels in self:
            if labels.error is None:
                yield labels

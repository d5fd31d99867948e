"""Labels lie in the picture, at their own boxes, and on no other label."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mdetr.visualization.labels import Rectangle, place_labels

CANVAS = (640, 400)
X, Y = st.integers(-50, 690), st.integers(-50, 450)
BOXES = st.lists(st.tuples(X, Y, X, Y), max_size=30).map(
    lambda found: [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in found]
)


def _overlap(first: Rectangle, second: Rectangle) -> bool:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return width > 0 and height > 0


@given(BOXES, st.integers(10, 700), st.integers(5, 60))
def test_labels_never_overlap_and_never_leave_the_picture(
    boxes: list[Rectangle], width: int, height: int
) -> None:
    placed = place_labels(boxes, [[(width, height), (10, height)]] * len(boxes), CANVAS)
    found = [place[1] for place in placed if place is not None]
    for number, one in enumerate(found):
        assert 0 <= one[0] < one[2] <= CANVAS[0]
        assert 0 <= one[1] < one[3] <= CANVAS[1]
        assert not any(_overlap(one, other) for other in found[:number])


def test_a_label_stands_on_its_box() -> None:
    assert place_labels([(100, 100, 200, 200)], [[(80, 20)]], CANVAS) == [(0, (100, 80, 180, 100))]


def test_a_label_at_the_upper_edge_lies_inside_its_box() -> None:
    assert place_labels([(100, 5, 200, 200)], [[(80, 20)]], CANVAS) == [(0, (100, 5, 180, 25))]


def test_a_label_at_the_right_edge_is_moved_into_the_picture() -> None:
    assert place_labels([(620, 100, 640, 200)], [[(80, 20)]], CANVAS) == [(0, (560, 80, 640, 100))]


def test_labels_of_the_same_box_are_stacked_until_only_the_short_wording_fits() -> None:
    box = (10, 20, 40, 60)
    places = place_labels([box] * 9, [[(80, 20), (15, 20)]] * 9, (90, 90))
    assert places[:4] == [
        (0, (10, 0, 90, 20)),
        (0, (10, 20, 90, 40)),
        (0, (10, 60, 90, 80)),
        (0, (10, 40, 90, 60)),
    ]
    assert places[4:] == [None] * 5  # nothing is left at the box


def test_a_label_without_room_for_all_its_words_gets_the_short_wording() -> None:
    boxes = [(0, 20, 50, 30), (60, 20, 90, 30)]
    places = place_labels(boxes, [[(70, 20), (20, 20)]] * 2, (90, 30))
    assert places == [(0, (0, 0, 70, 20)), (1, (70, 0, 90, 20))]

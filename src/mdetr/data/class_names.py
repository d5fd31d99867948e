"""Names of everyday objects: synonyms, plurals, kinds, and which are easily confused."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class ClassName:
    """Names of one class of objects.

    Attributes:
        singular: Names of one object, the most common first; empty for plural nouns such as jeans.
        plural: Names of several objects.
    """

    singular: tuple[str, ...]
    plural: tuple[str, ...]


# Canonical name -> synonyms.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "person": ("human",),
    "dog": ("doggy",),
    "cat": ("kitty",),
    "airplane": ("plane", "aeroplane"),
    "motorcycle": ("motorbike",),
    "bicycle": ("bike",),
    "car": ("automobile",),
    "truck": ("lorry",),
    "boat": ("ship",),
    "couch": ("sofa", "settee"),
    "tv": ("television", "tv screen"),
    "dining table": ("table",),
    "potted plant": ("plant", "houseplant"),
    "cell phone": ("phone", "mobile phone", "smartphone"),
    "refrigerator": ("fridge",),
    "donut": ("doughnut",),
    "sports ball": ("ball",),
    "remote": ("remote control",),
    "handbag": ("purse",),
    "backpack": ("rucksack",),
    "teddy bear": ("stuffed bear",),
    "cup": ("mug",),
    "wine glass": ("glass of wine",),
    "t-shirt": ("tee", "tee shirt"),
    "sweater": ("pullover",),
    "coat": ("overcoat",),
    "tie": ("necktie",),
    "hat": ("cap",),
    "laptop": ("notebook computer",),
    "mouse": ("computer mouse",),
    "suitcase": ("luggage",),
}

# Nouns without a singular, or with a singular other than the plural without "s".
ALWAYS_PLURAL: dict[str, tuple[str, ...]] = {
    "pants": ("trousers",),
    "jeans": ("denim pants",),
    "shorts": (),
    "leggings": (),
    "tights": (),
    "stockings": (),
    "sunglasses": ("shades",),
    "glasses": ("eyeglasses", "spectacles"),
    "scissors": (),
    "skis": (),
    "accessories": (),
}
UNCOUNTABLE = frozenset({"hair", "broccoli", "luggage"})
# Given in the plural, though one of them has a name.
PLURAL_CLASSES: dict[str, tuple[str, ...]] = {
    "shoes": ("shoe",),
    "boots": ("boot",),
    "sandals": ("sandal",),
    "heels": ("high heel",),
    "sneakers": ("sneaker", "trainer"),
    "loafers": ("loafer",),
    "pumps": ("pump",),
    "flats": ("flat shoe",),
    "wedges": ("wedge shoe",),
    "socks": ("sock",),
    "gloves": ("glove",),
}
IRREGULAR_PLURALS: dict[str, tuple[str, ...]] = {
    "person": ("people", "persons"),
    "human": ("humans",),
    "sheep": ("sheep",),
    "mouse": ("mice",),
    "computer mouse": ("computer mice",),
    "knife": ("knives",),
    "scarf": ("scarves",),
    "glass of wine": ("glasses of wine",),
    # also as the last word of a longer name
    "man": ("men",),
    "woman": ("women",),
    "child": ("children",),
    "foot": ("feet",),
    "tooth": ("teeth",),
    "goose": ("geese",),
    "leaf": ("leaves",),
    "loaf": ("loaves",),
    "shelf": ("shelves",),
    "wolf": ("wolves",),
    "calf": ("calves",),
    "tomato": ("tomatoes",),
    "potato": ("potatoes",),
    "fish": ("fish",),
    "deer": ("deer",),
}

# Kind -> all that belong to it.
KINDS: dict[str, frozenset[str]] = {
    "animal": frozenset(
        ("dog", "cat", "sheep", "horse", "cow", "bird", "elephant", "bear", "zebra", "giraffe", "raccoon")
    ),
    "vehicle": frozenset(("car", "truck", "bus", "train", "motorcycle", "bicycle", "airplane", "boat")),
    "fruit": frozenset(("apple", "orange", "banana")),
    "piece of furniture": frozenset(("chair", "couch", "dining table", "bed", "bench")),
    "shoe": frozenset(
        ("shoes", "boots", "sandals", "heels", "sneakers", "loafers", "pumps", "flats", "wedges")
    ),
}
KIND_NAMES: dict[str, ClassName] = {
    "animal": ClassName(("animal",), ("animals",)),
    "vehicle": ClassName(("vehicle",), ("vehicles",)),
    "fruit": ClassName(("piece of fruit", "fruit"), ("fruits", "fruit")),
    "piece of furniture": ClassName(("piece of furniture",), ("furniture",)),
    "shoe": ClassName(("piece of footwear",), ("footwear",)),
}

# Groups whose members are confused by people and detectors alike: what is one of them is no evidence that
# another of them is absent.
LOOKALIKES: tuple[frozenset[str], ...] = (
    KINDS["shoe"],
    frozenset(("pants", "jeans", "leggings", "tights", "stockings", "shorts", "socks", "suit", "romper")),
    frozenset(
        (
            *("blouse", "shirt", "t-shirt", "top", "sweater", "sweatshirt", "jumper", "cardigan", "hoodie"),
            *(
                "vest",
                "bodysuit",
                "coat",
                "jacket",
                "blazer",
                "cape",
                "suit",
                "dress",
                "romper",
                "scarf",
                "bra",
            ),
        )
    ),
    frozenset(("dress", "romper", "skirt", "bodysuit", "suit")),
    frozenset(("bag", "purse", "wallet", "handbag", "backpack", "suitcase")),
    frozenset(("sunglasses", "glasses")),
    frozenset(("bracelet", "necklace", "ring", "watch", "accessories", "belt", "tie", "hat", "scarf")),
    frozenset(("car", "truck", "bus", "train")),
    frozenset(("bicycle", "motorcycle")),
    frozenset(("sheep", "cow", "horse")),
    frozenset(("bowl", "cup", "wine glass", "vase", "bottle")),
    frozenset(("couch", "bed", "chair", "bench")),
    frozenset(("tv", "laptop", "keyboard", "microwave", "oven")),
    frozenset(("donut", "cake", "sandwich", "pizza", "hot dog")),
    frozenset(("orange", "apple", "carrot")),
    frozenset(("knife", "fork", "spoon")),
    frozenset(("skis", "snowboard", "skateboard", "surfboard")),
    frozenset(("bear", "teddy bear", "raccoon")),
    frozenset(("kite", "umbrella")),
    frozenset(("potted plant", "vase")),
    frozenset(("dining table", "bench")),
)

GARMENTS = frozenset(
    (
        *("bag", "purse", "coat", "pants", "dress", "blouse", "shirt", "belt", "jeans", "skirt", "blazer"),
        *("stockings", "suit", "sweater", "jacket", "sandals", "hat", "socks", "t-shirt", "scarf", "boots"),
        *("vest", "leggings", "shorts", "top", "sweatshirt", "cape", "loafers", "heels", "romper", "gloves"),
        *("wallet", "sneakers", "tie", "jumper", "cardigan", "pumps", "flats", "bodysuit", "tights", "shoes"),
        *("wedges", "hoodie", "bra", "sunglasses", "glasses", "bracelet", "necklace", "watch", "ring"),
        *("accessories", "hair"),
    )
)

# Groups of things that look or serve alike, so that a model must look closely to tell them apart: as names of
# absent things they teach most. Wider than `LOOKALIKES`: nobody takes a cat for a dog. The wild animals, of
# which there are few photos, are a group of their own, lest they crowd out pets and farm animals.
SIMILAR: tuple[frozenset[str], ...] = (
    frozenset(("dog", "cat", "sheep", "horse", "cow", "bird", "raccoon")),
    frozenset(("horse", "cow", "elephant", "bear", "zebra", "giraffe", "teddy bear")),
    KINDS["vehicle"],
    KINDS["piece of furniture"] | {"toilet"},
    frozenset(("bottle", "wine glass", "cup", "bowl", "vase", "potted plant")),
    frozenset(("fork", "knife", "spoon", "scissors", "toothbrush")),
    frozenset(("apple", "orange", "banana", "carrot", "broccoli")),
    frozenset(("sandwich", "hot dog", "pizza", "donut", "cake")),
    frozenset(("tv", "laptop", "keyboard", "mouse", "remote", "cell phone", "book", "clock")),
    frozenset(("microwave", "oven", "toaster", "sink", "refrigerator")),
    frozenset(("traffic light", "fire hydrant", "stop sign", "parking meter")),
    frozenset(("frisbee", "sports ball", "kite", "baseball bat", "baseball glove", "tennis racket")),
    frozenset(("skis", "snowboard", "skateboard", "surfboard")),
    frozenset(("backpack", "handbag", "suitcase", "umbrella", "bag", "purse", "wallet")),
    KINDS["shoe"] | {"socks", "stockings"},
    frozenset(("pants", "jeans", "leggings", "tights", "stockings", "shorts", "skirt", "dress")),
    frozenset(
        (
            *("blouse", "shirt", "t-shirt", "top", "sweater", "sweatshirt", "jumper", "cardigan", "hoodie"),
            *("vest", "coat", "jacket", "blazer", "cape", "suit", "dress", "romper", "bodysuit", "bra"),
        )
    ),
    frozenset(("hat", "scarf", "tie", "belt", "gloves", "sunglasses", "glasses")),
    frozenset(("bracelet", "necklace", "ring", "watch", "accessories")),
)


@cache
def class_name(name: str) -> ClassName:
    """Look up the names of a class by its canonical name; an unknown name gets a regular plural."""
    if name in KIND_NAMES:
        return KIND_NAMES[name]
    if name in ALWAYS_PLURAL:
        return ClassName((), (name, *ALWAYS_PLURAL[name]))
    if name in PLURAL_CLASSES:
        return ClassName(PLURAL_CLASSES[name], (name,))
    singular = (name, *SYNONYMS.get(name, ()))
    if name in UNCOUNTABLE:
        return ClassName(singular, singular)
    return ClassName(singular, tuple(plural for one in singular for plural in _plurals(one)))


def is_lookalike(name: str, others: frozenset[str]) -> bool:
    """Check whether a class is one of `others`, or easily confused with one of them."""
    return name in others or any(name in group and group & others for group in LOOKALIKES)


@cache
def similar_groups(name: str) -> tuple[frozenset[str], ...]:
    """List the groups of similar classes with a class; empty for an unknown one."""
    return tuple(group for group in SIMILAR if name in group)


def _plurals(noun: str) -> tuple[str, ...]:
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    *first, last = noun.split(" ")
    if last in IRREGULAR_PLURALS:  # "kitchen knife"
        return tuple(" ".join((*first, plural)) for plural in IRREGULAR_PLURALS[last])
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return (f"{noun}es",)
    if len(noun) > 1 and noun.endswith("y") and noun[-2] not in "aeiou":
        return (f"{noun[:-1]}ies",)
    return (f"{noun}s",)

"""Words of sentences about scenes: synonyms, relations, and wordings of questions.

A wording contains placeholders in braces for words about the first group, or, with a trailing 2, the second:

| placeholder | for example |
| --- | --- |
| {a} | a red cube left of the ball |
| {one} | red cube left of the ball |
| {the} | the red cube left of the ball |
| {things} | red cubes left of the ball |
| {bare}, {place} | red cubes; left of the ball ("there" without a relation) |

{attribute} is the compared attribute. A wording that ends with a full stop is a statement or a command.
"""

from __future__ import annotations

# Synonyms of CLEVR's values
WORDS = {
    "large": ("large", "big"),
    "small": ("small", "tiny"),
    "rubber": ("rubber", "matte"),
    "metal": ("metal", "metallic", "shiny"),
    "cube": ("cube", "block"),
    "sphere": ("sphere", "ball"),
    "cylinder": ("cylinder",),
    "thing": ("thing", "object"),
}
# Words for the spatial relations between groups
RELATIONS = {
    "left": ("left of", "to the left of", "on the left side of", "on the left of"),
    "right": ("right of", "to the right of", "on the right side of", "on the right of"),
    "behind": ("behind", "in back of"),
    "front": ("in front of",),
}
# Words for the attributes that two groups share
SAME = {
    "size": ("the same size as", "as big as", "of the same size as"),
    "color": ("the same color as", "of the same color as"),
    "material": ("made of the same material as", "the same material as"),
    "shape": ("the same shape as", "of the same shape as"),
}

# Whether a group has any objects
EXIST = (
    "is there {a}?",
    "are there any {things}?",
    "are there {things}?",
    "are any {bare} {place}?",
    "does the picture have {a}?",
    "does the picture show any {things}?",
    "does this scene contain {a}?",
    "does this image contain any {things}?",
    "can you see {a}?",
    "do you see any {things}?",
    "is there at least one {one}?",
    "is {a} present?",
    "are any {things} visible?",
    "can {a} be seen?",
    "any {things}?",
    "{a}: yes or no?",
    "there is {a}: true or false?",
    "tell me whether there is {a}.",
    "tell me if there are any {things}.",
    "say whether you see {a}.",
    "check if there is {a}.",
    "decide whether any {bare} are {place}.",
)

# Number of objects of a group
COUNT = (
    "how many {things} are there?",
    "how many {bare} are {place}?",
    "how many {things}?",
    "how many {things} do you see?",
    "how many {things} can be seen?",
    "how many {things} are in the picture?",
    "how many {things} does this scene have?",
    "what number of {things} are there?",
    "what number of {bare} are {place}?",
    "what is the number of {things}?",
    "what is the total number of {things}?",
    "there are how many {things}?",
    "number of {things}?",
    "count the {things}.",
    "count all {things}.",
    "give the number of {things}.",
    "find the number of {things}.",
    "tell me how many {things} there are.",
    "say how many {bare} are {place}.",
)

# The same of the union of two groups
EITHER_EXIST = (
    "are there any {things} or {things2}?",
    "is there {a} or {a2}?",
    "is there either {a} or {a2}?",
    "do you see {a} or {a2}?",
    "does the picture have any {things} or any {things2}?",
    "tell me whether there is {a} or {a2}.",
)
EITHER_COUNT = (
    "how many things are {things} or {things2}?",
    "how many objects are either {things} or {things2}?",
    "how many {things} or {things2} are there?",
    "what number of things are {things} or {things2}?",
    "what is the number of things that are either {things} or {things2}?",
    "count the things that are {things} or {things2}.",
    "tell me how many objects are {things} or {things2}.",
)

# Value of an attribute of a single object
QUERY = {
    "size": (
        "what size is {the}?",
        "how big is {the}?",
        "what is the size of {the}?",
        "which size does {the} have?",
        "{the} has what size?",
        "{the} is what size?",
        "is {the} large or small?",
        "is {the} big or tiny?",
        "size of {the}?",
        "tell me the size of {the}.",
        "name the size of {the}.",
        "say how big {the} is.",
        "there is {a}; what size is it?",
        "there is {a}; what is its size?",
        "there is {a}; how big is it?",
        "look at {the}. how big is it?",
    ),
    "color": (
        "what color is {the}?",
        "which color is {the}?",
        "what is the color of {the}?",
        "what color does {the} have?",
        "{the} has what color?",
        "{the} is what color?",
        "color of {the}?",
        "in what color is {the}?",
        "tell me the color of {the}.",
        "name the color of {the}.",
        "say what color {the} is.",
        "there is {a}; what color is it?",
        "there is {a}; what is its color?",
        "there is {a}. what color does it have?",
        "look at {the}. what color is it?",
    ),
    "material": (
        "what material is {the}?",
        "what is {the} made of?",
        "what is the material of {the}?",
        "which material is {the} made of?",
        "{the} is made of what?",
        "{the} has what material?",
        "is {the} made of rubber or metal?",
        "is {the} shiny or matte?",
        "material of {the}?",
        "tell me the material of {the}.",
        "name the material of {the}.",
        "say what {the} is made of.",
        "there is {a}; what is it made of?",
        "there is {a}; what is its material?",
        "there is {a}. what material is it?",
        "look at {the}. what is it made of?",
    ),
    "shape": (
        "what shape is {the}?",
        "what is the shape of {the}?",
        "which shape does {the} have?",
        "what kind of shape is {the}?",
        "{the} has what shape?",
        "{the} is what shape?",
        "is {the} a cube, a sphere or a cylinder?",
        "shape of {the}?",
        "tell me the shape of {the}.",
        "name the shape of {the}.",
        "say what shape {the} has.",
        "there is {a}; what shape is it?",
        "there is {a}; what is its shape?",
        "there is {a}. what shape does it have?",
        "look at {the}. what shape is it?",
    ),
}

# Comparison of the numbers of objects of two groups
COMPARE_NUMBER = {
    "greater_than": (
        "are there more {things} than {things2}?",
        "is the number of {things} greater than the number of {things2}?",
        "is the number of {things} larger than that of {things2}?",
        "does the picture have more {things} than {things2}?",
        "do you see more {things} than {things2}?",
        "do the {things} outnumber the {things2}?",
        "tell me whether there are more {things} than {things2}.",
        "there are more {things} than {things2}: true or false?",
    ),
    "less_than": (
        "are there fewer {things} than {things2}?",
        "is the number of {things} less than the number of {things2}?",
        "is the number of {things} smaller than that of {things2}?",
        "does the picture have fewer {things} than {things2}?",
        "do you see fewer {things} than {things2}?",
        "tell me whether there are fewer {things} than {things2}.",
        "there are fewer {things} than {things2}: true or false?",
    ),
    "equal_integer": (
        "are there as many {things} as {things2}?",
        "are there the same number of {things} and {things2}?",
        "are there an equal number of {things} and {things2}?",
        "is the number of {things} the same as the number of {things2}?",
        "is the number of {things} equal to that of {things2}?",
        "does the picture have as many {things} as {things2}?",
        "tell me whether there are as many {things} as {things2}.",
        "there are as many {things} as {things2}: true or false?",
    ),
}

# Whether two objects have the same value of an attribute
_SHARED = (
    "does {the} have the same {attribute} as {the2}?",
    "is the {attribute} of {the} the same as that of {the2}?",
    "is the {attribute} of {the} the same as the {attribute} of {the2}?",
    "do {the} and {the2} have the same {attribute}?",
    "do {the} and {the2} share their {attribute}?",
    "is {the} of the same {attribute} as {the2}?",
    "tell me whether {the} and {the2} have the same {attribute}.",
    "there is {a}; does it have the same {attribute} as {the2}?",
    "{the} has the same {attribute} as {the2}: true or false?",
)
COMPARE_ATTRIBUTE = {
    "size": (
        *_SHARED,
        "is {the} the same size as {the2}?",
        "is {the} as big as {the2}?",
        "are {the} and {the2} the same size?",
        "are {the} and {the2} equally big?",
    ),
    "color": (*_SHARED, "is {the} the same color as {the2}?", "are {the} and {the2} the same color?"),
    "material": (
        *_SHARED,
        "is {the} made of the same material as {the2}?",
        "are {the} and {the2} made of the same material?",
    ),
    "shape": (*_SHARED, "is {the} the same shape as {the2}?", "are {the} and {the2} the same shape?"),
}


def all_wordings() -> list[str]:
    """Distinct wordings of questions.

    Returns:
        The wordings of all forms.
    """
    wordings = [*EXIST, *COUNT, *EITHER_EXIST, *EITHER_COUNT]
    for group in (QUERY, COMPARE_NUMBER, COMPARE_ATTRIBUTE):
        for own_wordings in group.values():
            wordings += own_wordings
    return list(dict.fromkeys(wordings))

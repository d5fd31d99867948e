"""The model: tensors in, tensors out. It knows no files, no data sets and no metrics.

Annotations give the shapes of tensors, `Float[Tensor, "batch queries 4"]`; one name is one size within a
function. They cost nothing at run time; the tests check them. The names, here, in `mdetr.losses` and in
`mdetr.processing`, with the letters that prose uses:

==================  =======  ==========================================================================
Name                Letter   Size
==================  =======  ==========================================================================
images              I        images of a batch, padded to one height and width
batch               B        texts of a batch, or pairs of a text and its image
height, width       H, W     pixels of the padded images
map_height, _width  h, w     positions of the backbone's feature map
cells               P        positions of the feature map in one row, map_height * map_width
tokens              L        tokens of the texts, padded to the longest
length              S        cells and tokens together, the sequence of the joint transformer
hidden              C        features of the joint transformer
text_hidden                  features of the text encoder
heads                        heads of an attention
queries             Q        queries of the decoder for boxes (of proposals: the cells)
answer_queries      n        queries of the decoder for answers
positions           T        token positions of the soft token head; the last is "no object"
aligned                      features in which queries and tokens are aligned
mask_height, _width          pixels of a predicted mask
layers              D        decoder layers, stacked
boxes               N        target boxes of a text, padded to the text that has most
matches             M        pairs of a query and a target box
answers                      answers that one head chooses from
==================  =======  ==========================================================================

`_` is a size that no other has to equal, `*batch` any number of dimensions, `*#batch` the same with
broadcasting, and `{size}` the value of an argument.
"""

MODEL_TYPE = "mdetr"  # the `model_type` in the configuration files of our models

"""Kinds of training by name. A method declares itself in its own file;
this dict is all that has to know of it.

A recipe names one of these, or a class in a file of the user's own: `method: my_method.py:MyMethod`.
"""

METHODS: dict[str, str] = {
    "image2point": "pointlift.methods.image2point:Image2Point",
    "distillation": "pointlift.methods.distillation.recipe:Distillation",
    "view_teacher": "pointlift.methods.pointcmt.teacher:ViewTeacher",
    "point_generator": "pointlift.methods.pointcmt.generator_recipe:PointGeneration",
    "pointcmt": "pointlift.methods.pointcmt.recipe:PointCMT",
    "part_segmentation": "pointlift.methods.segmentation.recipe:PartSegmentation",
    "scene_segmentation": "pointlift.methods.segmentation.scene_recipe:SceneSegmentation",
    "ppkt": "pointlift.methods.ppkt.recipe:PPKT",
    "global_transfer": "pointlift.methods.global_transfer.recipe:GlobalTransfer",
    "pointcontrast": "pointlift.methods.pointcontrast.recipe:PointContrast",
    "pseudo_labels": "pointlift.methods.pseudo_labels.recipe:PseudoLabels",
    "image_pretraining": "pointlift.methods.image_pretraining.recipe:ImagePretraining",
    "image_collapse": "pointlift.methods.image_collapse:ImageCollapse",
}

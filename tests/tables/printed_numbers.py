"""The numbers of the papers' tables, typed from the papers and not from the definitions, in the papers' own
layout: what `test_printed_numbers.py` compares the definitions with.

A table is a list of columns and a line for every row, its numbers between bars; "-" where the paper prints a
dash, or where a row or column is not the paper's. Rows and columns have the names of the definitions.
"""

from __future__ import annotations

__all__ = ["IMAGE2POINT", "IMAGE2POINT_V1", "NO_NUMBERS", "POINTCMT", "QUOTED", "RUN_COUNTS", "SPEED_UPS"]

Printed = tuple[list[str], dict[str, str]]

# Image2Point v2, https://arxiv.org/abs/2106.04180v2
FEW_SHOT = ["ResNet18 from scratch", "ResNet18 FIP-ALL", "ResNet50 from scratch", "ResNet50 FIP-ALL",
            "ResNet152 from scratch", "ResNet152 FIP-ALL"]  # fmt: skip
TEACHERS = ["From scratch", "PointInfoNCE", "Hardest Contrastive", "ImageNet1K pretrain (Ours)"]
DATASETS = ["Tiny-ImageNet", "ImageNet1K", "ImageNet21K", "FractalDB1K", "FractalDB10K"]
IMAGE2POINT: dict[str, Printed] = {
    "1": (
        ["ResNet18", "ResNet50", "ResNet152", "ResNet101×2", "PointNet++(SSG)", "ViT-B-16", "ViT-L-16",
         "SimpleView"],
        {
            "From Scratch": "90.39 | 90.32 | 90.28 | 90.03 | 90.34 | 84.27 | 83.48 | 93.3",
            "FIP-ALL on ImageNet1K": "90.52 (+0.13) | 90.92 (+0.60) | 91.09 (+0.81) | 90.52 (+0.49) | "
            "91.22 (+0.88) | - | - | 93.8 (+0.50)",
            "FIP-ALL on ImageNet21K": "- | 91.05 (+0.73) | - | - | - | 87.77 (+3.50) | 87.66 (+4.18) | -",
        },
    ),
    "2": (
        ["PointNet++(SSG), S3DIS", "ResNet18, S3DIS", "HRNetV2-W48, SemanticKITTI",
         "ResNet18, SemanticKITTI"],
        {
            "From Scratch": "52.45 | 55.09 | 44.12 | 64.75",
            "FIP-ALL on ImageNet1K": "55.01 (+2.56) | 56.62 (+1.53) | 47.53 (+3.41) | 65.57 (+0.82)",
        },
    ),
    "3": (TEACHERS, {"top-1 accuracy": "89.95 | 90.24 (+0.29) | 90.15 (+0.20) | 90.88 (+0.93)"}),
    "4": (
        FEW_SHOT,
        {
            "10-shot": "72.2±0.8 | 73.2±0.6 (+1.0) | 71.7±0.7 | 74.1±0.8 (+2.4) | 69.8±1.1 | 73.9±0.4 (+4.1)",
            "5-shot": "63.7±1.6 | 66.6±0.8 (+2.9) | 62.4±1.1 | 66.0±2.2 (+3.6) | 59.4±0.8 | 66.5±0.9 (+7.1)",
            "1-shot": "26.8±4.4 | 36.8±0.6 (+10.0) | 28.1±0.4 | 34.1±0.2 (+6.0) | 23.3±4.3 | 33.2±1.3 (+9.9)",
        },
    ),
    "5": (
        TEACHERS,
        {
            "10-shot": "72.2 | 74.6 (+2.4) | 74.6 (+2.4) | 74.9 (+2.7)",
            "5-shot": "61.9 | 65.1 (+3.2) | 65.9 (+4.0) | 66.0 (+4.1)",
            "1-shot": "29.2 | 39.0 (+9.8) | 37.2 (+8.0) | 41.1 (+11.9)",
        },
    ),
    "6": (
        DATASETS,
        {
            "IO": "67.67 | 81.20 | 73.74 | 83.35 | 80.11",
            "IOms": "83.79 | 82.94 | 84.08 | 72.33 | 79.66",
            "IOmsWb": "89.99 | 89.87 | 90.80 | 89.26 | 89.34",
            # one number in a cell that spans all columns
            "From Scratch": "90.32 | 90.32 | 90.32 | 90.32 | 90.32",
        },
    ),
    "7": (
        ["ResNet18", "ResNet50", "ResNet152"],
        {
            "IO": "71.03 | 81.20 | 64.63",
            "IOms": "81.89 | 82.94 | 82.66",
            "IOmsWb": "88.75 | 89.87 | 90.44",
            "From Scratch": "90.39 | 90.32 | 90.28",
        },
    ),
    "8": (
        ["x axis", "y axis", "z axis"],
        {
            "FIP-IO": "82.17 | 81.73 | 81.20",
            "FIP-IO+BN": "90.44 | 90.84 | 89.87",
            "From Scratch": "90.32 | 90.32 | 90.32",  # one cell
        },
    ),
    "9": (
        ["1", "1 2", "1 2 3", "1 2 3 4", "2 3 4", "3 4", "4"],
        {
            "FIP-ALL": "89.91 | 90.36 | 90.64 | 90.92 | 91.09 | 90.19 | 89.99",
            "From Scratch": "90.32 | 90.32 | 90.32 | 90.32 | 90.32 | 90.32 | 90.32",  # one cell
        },
    ),
    "10": (
        TEACHERS,
        {
            "10-shot": "72.7±1.2 | 74.3±1.3 (+1.6) | 73.9±1.1 (+1.2) | 74.6±1.1 (+1.9)",
            "5-shot": "62.2±0.7 | 64.5±1.4 (+2.3) | 65.0±2.1 (+2.8) | 65.4±1.4 (+3.2)",
            "1-shot": "30.8±2.4 | 36.5±1.8 (+5.7) | 35.9±1.0 (+5.1) | 38.3±2.0 (+7.5)",
        },
    ),
    "11": (
        ["ImageNet1K", "From scratch", "FIP-IO+BN ImageNet1K", "FIP-IO+BN ImageNet21K"],
        {
            "Training CDNV": "0.63 | 0.37 | 0.71 | 0.47",
            "Validation CDNV": "0.66 | 0.43 | 0.68 | 0.60",
        },
    ),
    # the labels of figure 2 (a); its bars are table 6's
    "fig2": (
        ["ResNet18 on ImageNet1K", "ResNet50 on Tiny-ImageNet", "ResNet50 on ImageNet1K",
         "ResNet50 on ImageNet21K", "ResNet50 on FractalDB1K", "ResNet50 on FractalDB10K",
         "ResNet152 on ImageNet1K"],
        {
            "FIP-IO": "71.03 | 67.67 | 81.20 | 73.74 | 83.35 | 80.11 | 64.63",
            "FIP-IO+BN": "88.75 | 89.99 | 89.87 | 90.80 | 89.26 | 89.34 | 90.44",
            "From scratch": "90.39 | 90.32 | 90.32 | 90.32 | 90.32 | 90.32 | 90.28",
        },
    ),
    # the labels within figure 3; the best epoch has none
    "fig3": (
        ["ResNet18 train from scratch", "ResNet18 FIP-ALL on ImageNet1K", "ResNet50 train from scratch",
         "ResNet50 FIP-ALL on ImageNet1K", "ResNet152 train from scratch", "ResNet152 FIP-ALL on ImageNet1K"],
        {
            "after the first epoch": "70.22 | 81.65 | 28.48 | 80.11 | 13.94 | 79.34",
            "epochs to 90 %": "60 | 28 | 122 | 11 | 56 | 19",
        },
    ),
    "fig4": (
        ["From scratch", "FIP-IO+BN on ImageNet1K", "FIP-IO+BN on ImageNet21K"],
        {
            "Top-1 Acc": "90.32 | 89.90 | 90.80",
            "Training CDNV": "0.37 | 0.71 | 0.47",
            "Validation CDNV": "0.43 | 0.68 | 0.60",
        },
    ),
}  # fmt: skip
# section 4.4, and figure 3
SPEED_UPS = {"ResNet18": "2.14x", "ResNet50": "11.1x", "ResNet152": "2.95x"}

# Image2Point v1, https://arxiv.org/abs/2106.04180v1: the tables of the text, and beside each that of the
# stability analysis ("mean ± standard deviation", tables 8 to 14), typed apart
MODELNET = ["ModelNet(top 1 Acc%)"]
V1_DATASETS = ["Tiny-ImageNet", "ImageNet-1K", "ImageNet-21K", "FractalDB1k", "FractalDB10k"]
RESNETS = ["ResNet-18", "ResNet-50", "ResNet-152"]
IMAGE2POINT_V1: dict[str, tuple[list[str], dict[str, tuple[str, str]]]] = {
    "1": (
        ["ModelNet(top 1 Acc%)", "S3DIS(mIoU%)", "SemanticKITTI(mIoU%)"],
        {
            "I, O": ("78.69 | 53.54 | 55.78", "79.32 ± 0.46 | 53.40 ± 0.25 | 55.74 ± 0.13"),
            "I, O, µ, σ": ("83.45 | 54.86 | 56.29", "83.11 ± 0.23 | 54.82 ± 0.21 | 56.19 ± 0.11"),
            "I, O, µ, σ, W, b": ("88.09 | 55.22 | 58.76", "88.36 ± 0.17 | 55.26 ± 0.22 | 58.62 ± 0.14"),
            "whole network": ("89.14 | 56.62 | 65.59", "88.87 ± 0.35 | 56.53 ± 0.21 | 65.33 ± 0.23"),
            "from scratch": ("88.61 | 55.09 | 64.75", "88.65 ± 0.23 | 55.05 ± 0.17 | 64.66 ± 0.16"),
            "linear I, O": ("69.74 | 48.83 | 54.43", "69.74 ± 0.45 | 48.83 ± 0.23 | 54.31 ± 0.14"),
            "linear network(w/o backbone)": ("8.91 | - | -", "8.91 ± 3.46 | - | -"),
            "from scratch (linear I, O)": (
                "88.53 | 54.79 | 64.01",
                "88.53 ± 0.36 | 54.79 ± 0.21 | 63.75 ± 0.29",
            ),
        },
    ),
    "2": (
        ["PointNet++ (Cls top 1 Acc%)", "HRNetV2-W48 (Seg mIoU%)"],
        {
            "I, O, µ, σ": ("82.34 | 36.04", "82.14 ± 0.44 | 36.02 ± 0.11"),
            "whole network": ("90.72 | 49.37", "90.64 ± 0.35 | 49.33 ± 0.11"),
            "from scratch": ("90.67 | 44.12", "90.61 ± 0.33 | 44.09 ± 0.12"),
        },
    ),
    "5": (
        [
            "ImageNet-1K → SemanticKITTI",
            "Cityscapes → SemanticKITTI",
            "ImageNet-1K → S3DIS",
            "ADE20K → S3DIS",
        ],
        {
            "I, O": (
                "55.78 | 58.48 | 53.54 | 55.28",
                "55.74 ± 0.13 | 58.41 ± 0.11 | 53.40 ± 0.25 | 55.21 ± 0.21",
            ),
            "I, O, µ, σ": (
                "56.29 | 56.71 | 54.86 | 54.95",
                "56.19 ± 0.11 | 56.69 ± 0.12 | 54.82 ± 0.21 | 54.85 ± 0.25",
            ),
            "I, O, µ, σ, W, b": (
                "58.76 | 59.54 | 55.22 | 55.28",
                "58.62 ± 0.14 | 59.47 ± 0.17 | 55.26 ± 0.22 | 55.28 ± 0.25",
            ),
            "whole network": (
                "65.59 | 65.55 | 56.62 | 56.11",
                "65.33 ± 0.23 | 65.51 ± 0.22 | 56.53 ± 0.21 | 56.22 ± 0.24",
            ),
            # one number for both columns of a dataset
            "from scratch": (
                "64.75 | 64.75 | 55.09 | 55.09",
                "64.66 ± 0.16 | 64.66 ± 0.16 | 55.05 ± 0.17 | 55.05 ± 0.17",
            ),
        },
    ),
    "3": (
        ["1% train data", "5% train data", "10% train data", "100% train data"],
        {
            "w/ pretraining": (
                "24.92 | 71.11 | 76.82 | 88.90",
                "26.77 ± 5.48 | 68.96 ± 1.91 | 76.44 ± 0.64 | 88.73 ± 0.13",
            ),
            "w/o pretraining": (
                "13.66 | 68.56 | 74.31 | 88.53",
                "20.61 ± 8.16 | 68.28 ± 1.64 | 75.74 ± 0.93 | 88.56 ± 0.18",
            ),
        },
    ),
    "4": (
        V1_DATASETS,
        {
            "I, O": (
                "68.40 | 83.47 | 81.81 | 85.54 | 83.55",
                "67.84 ± 0.33 | 83.99 ± 0.30 | 81.37 ± 0.33 | 85.55 ± 0.02 | 83.32 ± 0.16",
            ),
            "I, O, µ, σ": (
                "81.69 | 83.28 | 82.10 | 72.53 | 77.96",
                "81.23 ± 0.37 | 82.53 ± 0.45 | 81.78 ± 0.24 | 71.85 ± 0.56 | 77.92 ± 0.06",
            ),
            "I, O, µ, σ, W, b": (
                "88.70 | 88.98 | 89.18 | 88.17 | 88.33",
                "88.86 ± 0.48 | 88.92 ± 0.22 | 89.46 ± 0.20 | 88.36 ± 0.30 | 88.57 ± 0.18",
            ),
            "whole network": (
                "89.06 | 88.90 | 89.19 | 88.45 | 88.49",
                "88.84 ± 0.14 | 88.73 ± 0.13 | 89.21 ± 0.04 | 88.48 ± 0.07 | 88.55 ± 0.14",
            ),
            # one number for both groups of columns
            "from scratch": (
                "88.53 | 88.53 | 88.53 | 88.53 | 88.53",
                "88.56 ± 0.18 | 88.56 ± 0.18 | 88.56 ± 0.18 | 88.56 ± 0.18 | 88.56 ± 0.18",
            ),
        },
    ),
    "6": (
        RESNETS,
        {
            "I, O": ("78.69 | 83.47 | 69.33", "79.32 ± 0.46 | 83.99 ± 0.30 | 69.42 ± 0.08"),
            "I, O, µ, σ": ("83.45 | 83.28 | 81.68", "83.11 ± 0.23 | 82.53 ± 0.45 | 81.16 ± 0.38"),
            "I, O, µ, σ, W, b": ("88.09 | 88.98 | 88.66", "88.36 ± 0.17 | 88.92 ± 0.22 | 88.74 ± 0.09"),
            "whole network": ("89.14 | 88.90 | 88.45", "88.87 ± 0.35 | 88.73 ± 0.13 | 88.45 ± 0.23"),
            "from scratch": ("88.61 | 88.53 | 88.74", "88.65 ± 0.23 | 88.56 ± 0.18 | 88.75 ± 0.02"),
        },
    ),
    "7": (
        ["T1", "T2", "T3", "ST", "NST", "ST(RI)", "NST(RI)"],
        {
            "I, O, µ, σ": (
                "82.21 | 81.81 | 82.25 | 84.36 | 87.24 | 84.40 | 86.35",
                "82.24 ± 0.73 | 81.82 ± 0.18 | 82.35 ± 0.29 | 84.20 ± 0.97 | 87.20 ± 0.06 | 84.54 ± 0.51 | "
                "86.59 ± 0.29",
            ),
        },
    ),
}

# PointCMT, NeurIPS 2022, and its supplement (tables 7 to 11)
POINTCMT: dict[str, Printed] = {
    "1": (
        ["mAcc(%)", "OA(%)", "Speed", "Param."],
        {
            "DGCNN (baseline)": "90.2 | 92.9 | 518 | 1.68M",
            "RS-CNN (baseline)": "89.3 | 92.9 | 2174 | 1.17M",
            "PointNet++ (baseline)": "90.1 | 93.4 | 300 | 1.62M",
            "DGCNN w/ PointCMT": "90.8 (+0.6) | 93.5 (+0.6) | 518 | 1.68M",
            "RS-CNN w/ PointCMT": "90.1 (+0.8) | 93.8 (+0.9) | 2174 | 1.17M",
            "PointNet++ w/ PointCMT": "91.2 (+1.1) | 94.4 (+1.0) | 300 | 1.62M",
        },
    ),
    "2": (
        ["OBJ_ONLY mAcc(%)", "OBJ_ONLY OA(%)", "PB_T50_RS mAcc(%)", "PB_T50_RS OA(%)"],
        {
            "PointNet++ (baseline)": "85.4 ± 0.2 | 87.4 ± 0.1 | 75.5 ± 0.3 | 79.2 ± 0.2",
            "PointMLP (baseline)": "89.1 ± 0.3 | 92.2 ± 0.3 | 83.9 ± 0.5 | 85.4 ± 0.3",
            "PointNet++ w/ PointCMT": "89.0 ± 0.3 (+3.7) | 91.6 ± 0.2 (+4.3) | 79.9 ± 0.3 (+4.4) | "
            "83.1 ± 0.2 (+3.9)",
            "PointMLP w/ PointCMT": "91.8 ± 0.2 (+2.6) | 93.2 ± 0.3 (+1.0) | 84.4 ± 0.4 (+0.4) | "
            "86.4 ± 0.3 (+1.0)",
        },
    ),
    "3": (
        ["Train from scratch", "w/ PointCMT"],
        {
            "2%": "73.3 | 75.2 (+1.9)",
            "5%": "82.1 | 83.5 (+1.4)",
            "10%": "85.1 | 87.9 (+2.8)",
            "20%": "88.4 | 89.3 (+0.9)",
        },
    ),
    "4": (
        ["ModelNet40", "OBJ_ONLY", "PB_T50_RS"],
        {
            "PointNet++": "93.4 | 87.5 | 79.4",
            "FE": "93.8 (+0.4) | 89.2 (+1.7) | 82.5 (+3.1)",
            "CE": "94.0 (+0.6) | 91.3 (+3.8) | 82.3 (+2.9)",
            "FE + CE": "94.4 (+1.0) | 91.8 (+4.3) | 83.3 (+3.9)",
        },
    ),
    "5": (
        ["ModelNet40", "PB_T50_RS"],
        {
            "Baseline": "93.4 | 79.4",
            "Hinton et al.": "93.1 (-0.3) | 81.8 (+2.4)",
            "Huang et al.": "93.6 (+0.2) | 82.0 (+2.6)",
            "Yang et al.": "93.9 (+0.5) | 81.1 (+1.7)",
            "PointCMT (ours)": "94.4 (+1.0) | 83.3 (+3.9)",
        },
    ),
    "6": (
        ["ModelNet40", "OBJ_ONLY"],
        {"Rendered from CAD": "94.4 | -", "Projection": "94.0 | 91.8", "Projection w/ color": "- | 90.7"},
    ),
    "7": (
        ["ModelNet40"],
        {
            "Baseline": "93.4",
            "Hinton et al.": "93.1 (-0.3)",
            "w/ Normalize-I": "93.4 (+0.0)",
            "w/ Normalize-II": "93.5 (+0.1)",
            "PointCMT (ours)": "94.4 (+1.0)",
        },
    ),
    # B.2 refers to a table 8 that the supplement does not show; the text says 94.2 and "only 0.2% performance
    # drop", tables 1 and 9 have the rest
    "8": (
        ["ModelNet40", "image network on ModelNet40"],
        {
            "PointNet++": "93.4 | -",
            "PointCMT, image network from scratch": "94.2 | -",
            "PointCMT, pre-trained image network": "94.4 | 97.0",
        },
    ),
    "9": (
        ["ModelNet40", "OBJ_ONLY", "PB_T50_RS"],
        {
            "PointNet++": "93.4 | 87.5 | 79.4",  # table 4's
            "Rendered from CAD": "97.0 | - | -",
            "Gains on PointNet++ (rendered)": "(+1.0) | - | -",
            "Projection": "93.8 | 89.0 | 80.8",
            "Gains on PointNet++ (projection)": "(+0.6) | (+4.3) | (+3.9)",
            "Projection w/ color": "- | 87.5 | -",
            "Gains on PointNet++ (projection w/ color)": "- | (+3.2) | -",
        },
    ),
    "10": (
        ["Stage I (Image Network)", "Stage II (CMPG)", "Stage III (PointNet++)"],
        {"time for per sample": "27.35ms | 2.30ms | 10.64s", "total epochs": "4.36h | 0.46h | 36.38h"},
    ),
    "11": (
        ["Instance avg IoU", "Class avg IoU"],
        {
            "Pre-trained PointNet++ w/o PointCMT": "85.3 | 82.0",
            "Pre-trained PointNet++ w/ PointCMT": "85.6 (+0.3) | 82.6 (+0.6)",
        },
    ),
    # the bars of figure 1 b: table 1's OA
    "fig1": (
        ["DGCNN", "RS-CNN", "PointNet++"],
        {"without PointCMT": "92.9 | 92.9 | 93.4", "with PointCMT": "93.5 | 93.8 | 94.4"},
    ),
    # pictures in figure 3; table 9's accuracies
    "fig3": (
        ["Rendered from CAD", "Projection", "Projection w/ color"],
        {"image network": "97.0 | 93.8 | 87.5"},
    ),
}

# numbers of other systems, as the tables print them
QUOTED: dict[str, dict[str, str]] = {
    "image2point/1": {"RSMix": "93.5", "Point-Trans": "93.7", "DRNet": "93.1", "PointCutMix": "93.4"},
    "image2point/fig2": {
        "3DShapeNets": "77", "DeepPano": "77.6", "PointNet": "89.2", "PointNet++": "90.7", "DGCNN": "90.7",
        "MVCNN": "90.1", "KDNet": "90.6",
    },
    "image2point-v1/1": {
        "3DShapeNets": "77.0", "DeepPano": "77.63", "Xu et al.": "81.26", "PointNet": "89.2",
        "PointNet++": "90.7", "DGCNN": "90.7",
    },
    # mAcc, OA, samples per second, parameters
    "pointcmt/1": {
        "PointNet (pnt, 1k)": "86.0, 89.2, -, 3.47M",
        "PointNet++ (pnt + nor, 5k)": "-, 91.9, -, 1.47M",
        "PointCNN (pnt, 1k)": "88.0, 92.5, -, -",
        "PointConv (pnt + nor, 1k)": "-, 92.5, 80, 18.6M",
        "KPConv (pnt, 7k)": "-, 92.9, 10, 15.2M",
        "PointASNL (pnt + nor, 1k)": "-, 93.2, -, -",
        "PosPool (pnt, 5k)": "-, 93.2, -, -",
        "Point Transformer (pnt, 1k)": "90.6, 93.7, -, -",
        "GBNet (pnt, 1k)": "91.0, 93.8, 112, 8.4M",
        "GDANet (pnt, 1k)": "-, 93.8, 14, 0.9M",
        "SimpleView (pnt, 1k)": "-, 93.9, 2208, 1.64M",
        "CurveNet (pnt, 1k)": "-, 94.2, 15, 2.0M",
        "PointMLP (pnt, 1k)": "91.4, 94.5, 139, 12.6M",
    },
    # OBJ_ONLY mAcc, OA; PB_T50_RS mAcc, OA
    "pointcmt/2": {
        "3DmFV": "-, 73.8; 58.1, 63.0",
        "PointNet": "-, 79.2; 63.4, 68.2",
        "SpiderCNN": "-, 79.5; 69.8, 73.7",
        "PointNet++": "-, 84.3; 75.4, 77.9",
        "DGCNN": "-, 86.2; 73.6, 78.1",
        "PointCNN": "-, 85.5; 75.1, 78.5",
        "DRNet": "-, -; 78.0, 80.3",
        "GBNet": "-, -; 77.8, 80.5",
        "SimpleView": "86.2, 89.0; -, 80.8",
        "PRANet": "-, -; 79.1, 82.1",
        "MVTN": "-, -; -, 82.8",
    },
}  # fmt: skip

# How many runs the papers say are behind a number, by column ("" is any other): v1, appendix "Stability
# analysis"; v2, captions of table 4 and text on tables 5 and 10; PointCMT, caption of table 2.
RUN_COUNTS: dict[str, dict[str, int]] = {
    "image2point/4": {"": 3},
    "image2point/5": {"": 3},
    "image2point/10": {"": 3},
    "image2point-v1/1": {"": 3},
    "image2point-v1/2": {"": 3},
    "image2point-v1/3": {"1% train data": 20, "5% train data": 15, "10% train data": 10, "": 3},
    "image2point-v1/4": {"": 3},
    "image2point-v1/5": {"": 3},
    "image2point-v1/6": {"": 3},
    "image2point-v1/7": {"": 3},
    "pointcmt/2": {"": 4},
}

# tables whose own question has no number in the paper, figures that are pictures
NO_NUMBERS = {"image2point-v1/fig5", "image2point-v1/fig6"}

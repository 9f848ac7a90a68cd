"""TFA-Net: template-based feature aggregation (Luo, Yao, Yu)."""

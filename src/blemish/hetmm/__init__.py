"""HETMM: training-free template mutual matching (Chen, Xie, Yang, Lai; IJCV 2024)."""

"""The fuzzer: damaged and hostile images, manifests, tensors and packed bundles, all reproducible.

    python -m tests.fuzz --inputs 100000 --seed 0        (from the project's root)

Each input follows from the seed and its number alone. What must hold is written in `targets.py`.
"""

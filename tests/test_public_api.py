"""The public names, what importing them costs, and a line floor without PyTorch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import blemish
from blemish import errors

BLOCK_TORCH = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "timm", "torchvision", "sklearn"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name.split(".")[0])
sys.meta_path.insert(0, Blocker())
"""


def python(code: str) -> str:
    """What a fresh interpreter prints when it runs `code`."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", blemish.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Each name of __all__ loads, and dir() lists it."""
    assert getattr(blemish, name) is not None
    assert name in dir(blemish)


def test_unknown_name_is_an_attribute_error() -> None:
    """A name Blemish does not have fails as any module's would."""
    with pytest.raises(AttributeError, match="no attribute 'Inspektor'"):
        _ = blemish.Inspektor


def test_import_is_lazy() -> None:
    """`import blemish` loads neither PyTorch nor OpenCV nor Pillow nor NumPy."""
    heavy = "{'torch', 'timm', 'cv2', 'PIL', 'numpy', 'sklearn', 'pydantic'}"
    assert python(f"import blemish, sys; print({heavy} & set(sys.modules))") == "set()"


def test_command_line_starts_without_torch() -> None:
    """Help and version need no PyTorch, so they answer at once."""
    code = "import sys, blemish.cli; print('torch' in sys.modules, 'cv2' in sys.modules)"
    assert python(code) == "False False"


@pytest.mark.parametrize(
    "module",
    [
        *("errors", "imaging", "verdict", "bundle", "streams", "graphs.sessions", "backbones"),
        *("detectors", "inspector", "compare", "export", "evaluation", "demo", "cli"),
    ],
)
def test_everything_but_training_works_without_torch(module: str) -> None:
    """Every package but `train` imports where PyTorch, timm and scikit-learn are absent."""
    assert python(f"{BLOCK_TORCH}import blemish.{module}; print('fine')") == "fine"


def test_training_names_say_what_to_install() -> None:
    """Without PyTorch only TFA-Net is missing: one sentence with the command that mends it."""
    code = """
import blemish
for name in blemish.__all__:
    try:
        getattr(blemish, name)
    except blemish.BlemishError as error:
        print(error.code, error)
"""
    said = python(BLOCK_TORCH + code)
    assert said.startswith("missing_extra blemish.TFANet needs PyTorch")
    assert "pip install 'blemish[train]'" in said
    assert len(said.splitlines()) == 1


def test_learning_loads_no_torch() -> None:
    """Where PyTorch is installed a HETMM is fitted without it, so starting costs nothing."""
    code = """
import sys
import numpy as np
from blemish import HETMM, Inspector
good = list(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8))
Inspector(HETMM(sheets=2), size=64).fit(good).inspect(good[0])
print({"torch", "timm", "sklearn", "openvino"} & set(sys.modules))
"""
    assert python(code) == "set()"


def test_inspecting_builds_no_graph(tmp_path: Path) -> None:
    """A saved bundle is inspected with without the library that writes graphs."""
    code = f"""
import sys
import numpy as np
from blemish import HETMM, Inspector
good = list(np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8))
Inspector(HETMM(sheets=2), size=64).fit(good).save({str(tmp_path / "part.blemish")!r})
np.save({str(tmp_path / "image.npy")!r}, good[0])
"""
    python(code)
    code = f"""
import sys
import numpy as np
from blemish import Inspector
made = Inspector.load({str(tmp_path / "part.blemish")!r})
made.inspect(np.load({str(tmp_path / "image.npy")!r}))
print({{"onnx", "torch"}} & set(sys.modules))
"""
    assert python(code) == "set()"


def test_verdict_without_torch() -> None:
    """A line PC calibrates, judges and reads images without PyTorch."""
    code = """
import numpy as np
from blemish.verdict import Calibration, Rule
from blemish.imaging import View, read_image
kept = Calibration.from_scores(range(19), Rule(0.05), method="held-out", peaks=range(19))
print(kept.verdict(18.5), View(8).apply(read_image(np.zeros((9, 9), np.uint8))).shape)
"""
    assert python(BLOCK_TORCH + code) == "fail (8, 8, 3)"


def test_errors_are_one_tree_with_codes_of_their_own() -> None:
    """Every error is a BlemishError, and no two share the code that machines read."""
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert len(kinds) > 10
    assert all(issubclass(kind, errors.BlemishError) for kind in kinds)
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)

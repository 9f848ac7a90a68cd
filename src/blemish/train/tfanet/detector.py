"""The TFA-Net detector: trained on good images, it compares a part with its reconstruction (3.5.2).

A seeded share of the good images is held back from training, for calibration. Options are those of
`TFANetConfig`; a preset names a whole set of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from blemish.backbones import FilterBank, create_backbone
from blemish.bundle import BackboneRecord, GraphsRecord
from blemish.detectors.base import (
    Detector,
    Images,
    Laps,
    Maps,
    Parts,
    Picture,
    Pictures,
    Point,
    check_enough,
)
from blemish.errors import NotFittedError, ParameterError
from blemish.imaging import Progress, digest, silent
from blemish.train.backbone import GraphBackbone
from blemish.train.batches import batches, to_batch
from blemish.train.device import resolve_device
from blemish.train.tfanet.checkpoint import fingerprint
from blemish.train.tfanet.explain import explain_image
from blemish.train.tfanet.features import (
    READ,
    CachedFeatures,
    FeatureExtractor,
    FeatureSource,
    FreshFeatures,
    default_levels,
)
from blemish.train.tfanet.network import TFANet as Network
from blemish.train.tfanet.network import build_network, check_fits
from blemish.train.tfanet.presets import TFANetConfig
from blemish.train.tfanet.presets import preset as named_preset
from blemish.train.tfanet.scoring import anomaly_maps, image_scores
from blemish.train.tfanet.templates import choose_templates, held_out, named_position, split
from blemish.train.tfanet.training import RunOptions, Watch, launch, train

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Where a run takes place, which a bundle need not know.
_PLACE = ("run_dir", "cache_mb")
FEATURES = "features.onnx"  # the part of the bundle with the backbone's graph
OPTIONS = tuple(field.name for field in dataclasses.fields(TFANetConfig))


class TFANet(Detector):
    """Template-based feature aggregation (Luo, Yao, Yu); higher scores are worse.

    `preset`: small (two CPU cores), default, paper or release; `options`: any field of
    `TFANetConfig`, which overrides the preset's value.
    `backbone`, `feature_levels`: where features come from (None: stem to third stage).
    `calibration_share`: share of the good images that is not trained on but kept for calibration.
    `run_dir`: folder of the checkpoint and logs; a run that was stopped goes on from there.
    `cache_mb`: memory for cached features, beyond which they go to a temporary file.
    `devices`, `nodes`: processes a machine, one a device, and machines (None: one, or what torchrun
    started). Each process runs the whole program; `start` tells the first from the others.
    """

    method: ClassVar[str] = "tfanet"
    leaves_one_out: ClassVar[bool] = False

    _fabric: Fabric | None = None  # between `start` and `fit`

    def __init__(
        self,
        *,
        preset: str = "small",
        backbone: str = "efficientnet_lite0",
        feature_levels: Sequence[int] | None = None,
        calibration_share: float = 0.2,
        run_dir: str | None = None,
        cache_mb: int = 4096,
        devices: int | None = None,
        nodes: int | None = None,
        **options: Any,
    ) -> None:
        self.preset = preset
        self.backbone = backbone
        self.feature_levels = feature_levels
        self.calibration_share = calibration_share
        self.run_dir = run_dir
        self.cache_mb = cache_mb
        self.devices = devices
        self.nodes = nodes
        self.options = options
        if unknown := [name for name in options if name not in OPTIONS]:
            raise ParameterError(
                f"TFANet has no option '{unknown[0]}'; it has {', '.join(self.setting_names())}"
            )
        self.levels = default_levels(backbone) if feature_levels is None else feature_levels
        self.taps = "pooled"  # where a max-pooling follows the stem, the map after it

    @property
    def config(self) -> TFANetConfig:
        """The preset with the options given; raises ParameterError for what cannot work."""
        return named_preset(self.preset).with_overrides(self.options)

    def parameters(self) -> dict[str, Any]:
        """Everything that shapes the result, each option spelled out, so presets may change."""
        names = ("preset", "backbone", "feature_levels", "calibration_share")
        config = self.config.to_dict()
        if "seed" not in self.options:
            del config["seed"]  # `fit` is given it
        return {**{name: getattr(self, name) for name in names}, **config}

    @classmethod
    def setting_names(cls) -> list[str]:
        """What `--set` may name; not `devices`, whose processes only `fit` is prepared for."""
        own = ("preset", "backbone", "feature_levels", "calibration_share", *_PLACE)
        return [*own, *OPTIONS]

    def __repr__(self) -> str:
        given = {"preset": self.preset, "backbone": self.backbone, **self.options}
        return f"TFANet({', '.join(f'{name}={value!r}' for name, value in given.items())})"

    @classmethod
    def setting_kinds(cls) -> dict[str, Any]:
        """See `Detector.setting_kinds`; the options check themselves."""
        kinds = super().setting_kinds()
        return {name: kinds.get(name) for name in cls.setting_names()}

    def start(self, device: str) -> bool:
        """Start the other processes that `fit` learns with; whether this is the first of all.

        `fit` does it where it has not been done. Raises ParameterError for more devices than there
        are, or a batch that they cannot share evenly.
        """
        self._fabric = launch(resolve_device(device), self.config, self.devices, self.nodes)
        return bool(self._fabric.is_global_zero)

    def fit(
        self,
        images: Images,
        *,
        device: str = "auto",
        seed: int = 0,
        progress: Progress = silent,
        watch: Watch | None = None,
    ) -> Self:
        """Train on good images [H, W, 3], less those held back; returns self.

        `watch` is `training.train`'s; an option `seed` goes before the argument.
        """
        config = self._config_with(seed)
        self._check()
        check_enough(len(images), 1, "training")
        keep = named_position(config, len(images)) if config.uses_template else None
        self.templates_, self.held_out_ = split(
            len(images), self.calibration_share, config.seed, keep
        )
        fabric = self._fabric or launch(resolve_device(device), config, self.devices, self.nodes)
        self._fabric = None
        place = fabric.device
        progress = progress if fabric.is_global_zero else silent
        training = Subset(images, self.templates_)
        extractor = self._extractor(training, config, place, progress)
        template = None
        if config.uses_template:
            chosen = choose_templates(
                images, self.templates_, extractor, config, place, progress=progress
            )
            template, self.template_positions_ = chosen.images, list(chosen.positions)
        options = self._run_options(
            training, template, config, extractor.backbone, several=fabric.world_size > 1
        )
        with ExitStack() as stack:
            source = self._source(extractor, training, template, config, progress, stack)
            network = train(
                source, len(training), config,
                fabric=fabric, options=options, watch=watch, progress=progress,
            )  # fmt: skip
            with torch.no_grad():
                found = source.template()
                tokens = None if found is None else network.encode_template(found)
        self._hw = (images[0].shape[0], images[0].shape[1])
        return self._use(extractor, network, tokens, place)

    def maps(self, images: Images, laps: Laps | None = None) -> Maps:
        """See `Detector.maps`."""
        self._check_fitted()
        found = self.anomaly_maps(to_batch(images, self._device)).cpu().numpy()
        if laps is not None:
            laps.lap("detector")
        return np.asarray(found, np.float32)

    def anomaly_maps(self, images: Tensor) -> Tensor:
        """Maps [B, H, W] of images [B, 3, H, W]: how far each place is from its reconstruction."""
        self._check_fitted()
        size = (images.shape[-2], images.shape[-1])
        with torch.inference_mode():
            features, reconstruction = self.reconstruct(images)
            return anomaly_maps(features, reconstruction, self.network_.config, size=size)

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """phi(I) and its reconstruction, both [B, C, grid, grid], of images [B, 3, H, W]."""
        self._check_fitted()
        half = self.network_.config.inference_precision == "bf16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=half):
            features: Tensor = self.extractor_(images)
            rebuilt: Tensor = self.network_(features, template_tokens=self.template_tokens_)
        return features, rebuilt.float()

    def scores(self, maps: Maps) -> npt.NDArray[np.float32]:
        """See `Detector.scores`: each map's standard deviation, or maximum."""
        self._check_fitted()
        found: npt.NDArray[np.float32]
        found = image_scores(torch.from_numpy(maps), self.network_.config).numpy()
        return found

    def calibration_parts(self, images: int) -> int:
        """Count how many of `images` good images are held back from training."""
        self._check()
        return held_out(images, self.calibration_share)

    def calibration_maps(
        self,
        images: Images,
        positions: Sequence[int],
        own: Sequence[int],
        progress: Progress = silent,
    ) -> Iterator[Maps]:
        """See `Detector.calibration_maps`; raises ParameterError for images trained on."""
        self._check_fitted()
        if any(index >= 0 for index in own):
            raise ParameterError(
                "TFA-Net cannot calibrate on images it was trained on; give other good parts."
            )
        read = batches(
            images, positions, size=READ, device=self._device, stage="calibrating",
            progress=progress,
        )  # fmt: skip
        for _, batch in read:
            yield self.anomaly_maps(batch).cpu().numpy()

    def explain(
        self,
        image: npt.NDArray[np.float32],
        pictures: Pictures | None = None,
        points: Sequence[Point] = (),
    ) -> dict[str, Picture]:
        """See `Detector.explain`: what the network sees in one image (Fig. 6, 7 and 9)."""
        self._check_fitted()
        return explain_image(self, to_batch([image], self._device))

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the images that it was trained on."""
        self._check_fitted()
        return self._hw

    @property
    def backbone_record(self) -> BackboneRecord:
        """See `Detector.backbone_record`."""
        self._check_fitted()
        return BackboneRecord(
            name=self.backbone_.name,
            levels=list(self.levels),
            taps=self.taps,
            weights_sha256=self.backbone_.weights_sha256,
        )

    def state(self) -> Parts:
        """See `Detector.state`: the network, and the template's tokens."""
        self._check_fitted()
        network = {name: value.cpu().numpy() for name, value in self.network_.state_dict().items()}
        if self.template_tokens_ is not None:
            network["template_tokens"] = self.template_tokens_.cpu().numpy()
        return {"network": network}

    def graphs(self) -> tuple[GraphsRecord | None, dict[str, bytes]]:
        """See `Detector.graphs`: the backbone's, before the network that PyTorch runs."""
        self._check_fitted()
        height, width = self._hw
        record = GraphsRecord(
            parts={"features": FEATURES}, height=height, width=width,
            score="std" if self.network_.config.image_score == "std" else "max",
        )  # fmt: skip
        return record, {FEATURES: self.backbone_.graph}

    def whole(self) -> Self:
        """See `Detector.whole`."""
        again = type(self)(**self.parameters())
        again._hw = self._hw
        return again.restore(self.state(), self.backbone_, list(self.templates_))

    def restore(
        self, parts: Mapping[str, Any], backbone: GraphBackbone, templates: list[int]
    ) -> Self:
        """Take back what `state` gave; returns self."""
        config = self._config_with(0)
        device = backbone.mean.device
        tensors = {k: torch.from_numpy(np.array(v)) for k, v in parts["network"].items()}
        tokens = tensors.pop("template_tokens", None)
        check_fits(tensors, tokens, config)
        network = build_network(int(tensors["embed.weight"].shape[1]), config)
        network.load_state_dict(tensors)
        self.templates_, self.held_out_ = templates, []
        extractor = FeatureExtractor(backbone, config).to(device)
        tokens = None if tokens is None else tokens.to(device)
        return self._use(extractor, network.to(device).eval(), tokens, device)

    @classmethod
    def restored(
        cls,
        parameters: Mapping[str, Any],
        record: GraphsRecord,
        backbone: BackboneRecord,
        graph: bytes,
        state: Parts,
        templates: int,
        device: str,
    ) -> Self:
        """Rebuild from a bundle: `graph` is the backbone's, `state` what `state()` gave."""
        made = cls(**parameters)
        made._hw = (record.height, record.width)
        network = GraphBackbone(
            backbone.name, graph, backbone.levels, weights_sha256=backbone.weights_sha256
        ).to(resolve_device(device))
        return made.restore(state, network, list(range(templates)))

    def _use(
        self,
        extractor: FeatureExtractor,
        network: Network,
        tokens: Tensor | None,
        device: torch.device,
    ) -> Self:
        self.extractor_, self.backbone_ = extractor, extractor.backbone
        self.network_ = network.requires_grad_(False)
        self.template_tokens_ = tokens
        self._device = device
        return self

    def _config_with(self, seed: int) -> TFANetConfig:
        config = self.config
        return config if "seed" in self.options else dataclasses.replace(config, seed=seed)

    def _extractor(
        self, training: Images, config: TFANetConfig, device: torch.device, progress: Progress
    ) -> FeatureExtractor:
        levels, hw = tuple(self.levels), (training[0].shape[0], training[0].shape[1])
        made = create_backbone(self.backbone, levels=levels, taps=self.taps, seed=config.seed)
        if isinstance(made, FilterBank):
            made = made.fit(training, range(len(training)), hw, progress)
        backbone = GraphBackbone.of(made, levels, hw).to(device)
        return FeatureExtractor(backbone, config).to(device)

    def _source(
        self,
        extractor: FeatureExtractor,
        training: Images,
        template: Tensor | None,
        config: TFANetConfig,
        progress: Progress,
        stack: ExitStack,
    ) -> FeatureSource:
        device = extractor.backbone.mean.device
        if not config.cache:
            return FreshFeatures(extractor, training, template, device)
        cached = CachedFeatures(
            extractor, training, template, device, limit_mb=self.cache_mb, progress=progress
        )
        return stack.enter_context(cached)

    def _run_options(
        self,
        training: Images,
        template: Tensor | None,
        config: TFANetConfig,
        backbone: GraphBackbone,
        *,
        several: bool,
    ) -> RunOptions:
        if self.run_dir is None and not several:
            return RunOptions()
        run = {
            "config": config.to_dict(),
            "backbone": [backbone.name, backbone.weights_sha256, list(self.levels)],
            "images": [digest(training[index]) for index in range(len(training))],
            "template": None if template is None else digest(template.cpu().numpy()),
        }
        return RunOptions(None if self.run_dir is None else Path(self.run_dir), fingerprint(run))

    def _check_fitted(self) -> None:
        if not hasattr(self, "network_"):
            raise NotFittedError("This TFANet is not trained yet; call fit with good images first")

    def _check(self) -> None:
        if not 0 <= self.calibration_share < 1:
            raise ParameterError(
                f"calibration_share is {self.calibration_share}; give 0 (nothing is held back, and "
                "calibrating needs other good parts) or a share below 1"
            )


class Subset(Sequence[Any]):
    """The images at `positions` of a longer sequence, read when indexed."""

    def __init__(self, images: Images, positions: Sequence[int]) -> None:
        self.images, self.positions = images, positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> Any:
        return self.images[self.positions[index]]

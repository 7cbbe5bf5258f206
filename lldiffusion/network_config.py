"""Configuration of the network: encoder, denoiser and the training-only DGNET."""

from __future__ import annotations

from dataclasses import dataclass, field

from lldiffusion.bounds import check_bounds
from lldiffusion.errors import LLDiffusionError, choose
from lldiffusion.network_size import check_size


@dataclass(frozen=True)
class EncoderConfig:
    """The latent map encoder E(y) (paper, section 3.3): a stride-2 pyramid, a head and a ladder back up."""

    channels: tuple[int, ...] = (16, 32, 64, 128, 256)  # one stride-2 convolution each
    residual_blocks: int = 3  # at the lowest resolution
    head_channels: int = 512  # of the three-convolution head
    ladder: tuple[int, ...] = (512, 512, 256)  # channels of the features handed to the denoiser, coarse to fine
    ladder_scales: tuple[int, ...] = (2, 2, 2)  # upsampling before each of them
    norm: str = "instance"  # "instance" removes the brightness level, "none" keeps it
    spectral_norm: bool = True  # of the pyramid, head and ladder convolutions
    shrink: int = 1  # side of the squares of pixels that are averaged before the pyramid

    @property
    def reduction(self) -> int:
        """How many pixels of a side lie behind one place of the lowest resolution."""
        return self.shrink * 2 ** len(self.channels)

    def __post_init__(self) -> None:
        check_bounds(self)
        choose(self.norm, ("instance", "none"), "encoder norm")
        if len(self.ladder) != len(self.ladder_scales):
            raise LLDiffusionError("model.encoder: 'ladder' and 'ladder_scales' must have the same length")


@dataclass(frozen=True)
class UNetConfig:
    """One U-Net: the denoiser (DDDM) or the degradation generation network (DGNET)."""

    channels: int = 64  # at the first level
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)  # of `channels`, one a level, fine to coarse
    blocks: int = 2  # residual blocks a level going down; one more going up
    block_type: str = "res"  # "res": two conv3, as the paper; "naf": NAFNet's, mostly 1x1 convolutions
    attention_down: tuple[int, ...] = (2,)  # levels with self-attention, counted from the finest
    attention_up: tuple[int, ...] = (2,)
    attention_pool: int = 1  # side of the squares that keys and values are averaged over: 1, or 2 for large images
    patch: int = 1  # pixel-unshuffle factor of the stem: the first level works at 1/patch
    norm: str = "group"  # "group": GroupNorm over the image; "pixel": over the channels of each pixel; "none": a
    # plain U-Net of convolutions alone (`model.plain`): no attention, tiles agree with the whole, made for runtimes
    activation: str = "silu"  # of the residual blocks: "silu", "relu" or "leaky_relu"; with norm "none"
    groups: int = 32  # of "group"
    channel_attention: bool = True  # reweights [h, E_i] after concatenation
    middle_time: bool = True  # the middle blocks receive the timestep (the authors' never do)
    gain: bool = False  # denoiser of x0: predict offset and gain of every pixel, x0 = offset + gain * tone(y);
    # with model.level, x0 = offset + gain * brightened y
    refine: int = 0  # with gain: channels of a last residual at full resolution, which sees across the patches; 0: none

    def __post_init__(self) -> None:
        check_bounds(self)
        choose(self.norm, ("group", "pixel", "none"), "U-Net norm")
        choose(self.activation, ("silu", "relu", "leaky_relu"), "U-Net activation")
        choose(self.block_type, ("res", "naf"), "U-Net block")
        self._check_plain()
        if self.attention_pool not in (1, 2):  # the coarsest level of a picture is a multiple of 2, of nothing more
            raise LLDiffusionError(f"attention_pool {self.attention_pool}: accepted are 1 and 2")
        if self.refine and not self.gain:
            raise LLDiffusionError(
                "model.denoiser.refine smooths offset + gain * y: it needs model.denoiser.gain = true"
            )
        if self.norm == "group" and self.channels % self.groups:
            raise LLDiffusionError(f"channels {self.channels} is not a multiple of groups {self.groups}")

    def _check_plain(self) -> None:
        """Norm "none" is convolutions alone: what looks at the whole picture, and what needs a norm, is refused."""
        whole = self.attention_down or self.attention_up or self.channel_attention or self.block_type != "res"
        if self.norm == "none" and whole:
            raise LLDiffusionError(
                "norm 'none' is a plain U-Net of convolutions: set attention_down = [], attention_up = [], "
                "channel_attention = false and block_type = 'res'"
            )
        if self.norm != "none" and self.activation != "silu":
            raise LLDiffusionError(f"activation '{self.activation}' needs norm = 'none': with norms it is SiLU")


@dataclass(frozen=True)
class ModelConfig:
    """The network: encoder, denoiser and the training-only DGNET."""

    tone: str = "none"  # curve applied to y inside the networks: "none", or "log", which spreads the darks
    level: str = "none"  # how y is brightened for the denoiser: "none", or "grid": log-gain by place and brightness,
    # made once from the whole picture (`model.level`); "tinted": and every block of the denoiser is told the picture's
    # mean colour, which says how its light and its black are tinted (`model.tint`); of norm "none" alone
    white: float = 0.0  # with a level: brightened value (1: white) that 1 % of a picture may newly reach; the guessed
    # level is lowered to keep to it, so that lamps do not burn; 0: no limit
    rest: float = 0.0  # with a level and gain: pixels whose log2 gain is below this fade into y, and so does a picture
    # whose mean shall change by less than a third of it, but for its shadows beside much light; 0: never
    tones: bool = False  # with a level: most of the guess of a dark picture's brightness comes from its channels'
    # darkest to brightest values (`model.guess.Tones`), which tell the camera and the light; its places tell the rest
    recurrent: bool = False  # a model for video (`model.live`): x_t is its own previous result, zeros where there is
    # none; one step; its U-Net sees `denoiser.patch` pixels a side averaged; needs level, gain, refine, norm "none"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    denoiser: UNetConfig = field(default_factory=lambda: UNetConfig(middle_time=False))
    degrader: UNetConfig = field(default_factory=lambda: UNetConfig(channels=32))

    def __post_init__(self) -> None:
        check_bounds(self)
        choose(self.tone, ("none", "log"), "tone curve")
        choose(self.level, ("none", "grid", "tinted"), "level")
        self._check_recurrent()
        if self.tinted and self.denoiser.norm != "none":
            raise LLDiffusionError("model.level = 'tinted' needs model.denoiser.norm = 'none': take 'grid'")
        self.check_grids("denoiser")
        check_size(self)

    @property
    def tinted(self) -> bool:
        """Whether the denoiser's blocks are told the picture's mean colour."""
        return self.level == "tinted"

    def _check_recurrent(self) -> None:
        d = self.denoiser
        if self.recurrent and not (self.level != "none" and d.gain and d.refine and d.norm == "none" and d.patch > 1):
            raise LLDiffusionError(
                "model.recurrent needs model.level = 'grid' or 'tinted', and of model.denoiser norm = 'none', "
                "gain = true, refine and patch above 1"
            )

    def check_grids(self, name: str) -> None:
        """Of "denoiser" or "degrader": its level i above the coarsest must be of the size of the i-th feature.

        The degrader's are checked where one is built: many models have none.
        """
        unet: UNetConfig = getattr(self, name)
        levels, size = len(unet.multipliers), self.encoder.reduction
        for i, scale in enumerate(self.encoder.ladder_scales, start=1):
            size, level = size // scale, unet.patch * 2 ** (levels - 1 - min(i, levels - 1))
            if i > levels or size != level:
                where = f"joins a level at 1/{level}" if i <= levels else f"has no level among {levels}"
                raise LLDiffusionError(
                    f"model.{name}: feature {i} of the encoder is at 1/{size} of the image and {where}; patch "
                    f"({unet.patch}) times 2^(multipliers - 1) must be encoder.shrink times 2^(encoder.channels), "
                    f"here {self.encoder.reduction}, and ladder_scales 2 each"
                )

    @property
    def size_multiple(self) -> int:
        """Height and width must be multiples of this many pixels (DESIGN: 32 for every model)."""
        coarsest = self.denoiser.patch * 2 ** (len(self.denoiser.multipliers) - 1)
        return max(32, coarsest, self.encoder.reduction)

"""DeepSpeed's engine, driven by a plain loop, through its public functions only.

ZeRO shards the optimizer's state (stage 1), the gradients (2) and the weights (3) over the processes, in flat buffers.
Checkpoints hold what PyTorch's own optimizer and model would save, so a run can resume in any stage, or without
DeepSpeed. Features that DeepSpeed's public functions do not support are refused with an error.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils.deepspeed import DeepSpeedOptimizerWrapper
from torch import Tensor, nn

from ..errors import ConfigError
from ..storage.shards import Turns
from .gradients import clip_grad_norm


def configure(accelerator: Accelerator, say: Callable[[str], None]) -> None:
    """Complete DeepSpeed's configuration, and turn off what the loop controls.

    DeepSpeed wants a micro-batch size, for its reports only, and accelerate would read it from a `DataLoader` that is
    prepared with the model; here there is none. DeepSpeed's own bf16 would convert weights and inputs; PyTorch's
    autocast keeps the weights in float32, as without DeepSpeed.

    Args:
        accelerator: Has DeepSpeed's configuration, which is changed in place.
        say: Prints a line for each setting that is ignored.

    Raises:
        ConfigError: The precision is fp16, or shards are offloaded in a way that cannot be saved.
    """
    if accelerator.mixed_precision == "fp16":
        raise ConfigError(
            "fp16 is not supported under DeepSpeed, whose loss scale cannot be saved and restored: "
            "use `bf16` or `fp32`, or FSDP2 for fp16"
        )
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    if settings.get("train_micro_batch_size_per_gpu", "auto") == "auto":
        settings["train_micro_batch_size_per_gpu"] = 1
    for name, off, instead in (
        ("gradient_accumulation_steps", 1, "`accumulate`"),
        ("gradient_clipping", 0.0, "the `max_norm` of `run.clip_grad_norm`"),
    ):
        if settings.get(name, "auto") not in ("auto", off):
            say(f"DeepSpeed's `{name}` is ignored: {instead} applies")
        settings[name] = off
    for name in ("offload_optimizer", "offload_param"):
        offload = settings.get("zero_optimization", {}).get(name, {})
        if offload.get("device") == "nvme" or offload.get("ratio", 1) < 1:
            what = "to `nvme`" if offload.get("device") == "nvme" else "with a `ratio` below 1"
            raise ConfigError(f"DeepSpeed's `{name}` {what} cannot be saved in checkpoints: offload all of it to `cpu`")
    if accelerator.mixed_precision == "bf16":
        settings["bf16"] = {"enabled": False}
        settings["torch_autocast"] = {**settings.get("torch_autocast", {}), "enabled": True, "dtype": "bfloat16"}


class EngineOptimizer(DeepSpeedOptimizerWrapper):  # type: ignore[misc]
    """The optimizer of DeepSpeed's engine, for a loop that calls backward, clipping and step itself.

    In stages 1 to 3 DeepSpeed clips and updates in one call. `clip_grad_norm` makes this call, and the `step` after it
    does nothing. In these stages DeepSpeed skips an update whose gradient norm is not finite.

    Args:
        engine: DeepSpeed's engine.
        groups: The parameters of each of the optimizer's groups, from before DeepSpeed replaced them by flat buffers.

    Attributes:
        stage: The ZeRO stage, 0 to 3.
        parameter_groups: The parameters of each group.
    """

    def __init__(self, engine: Any, groups: list[list[nn.Parameter]]) -> None:
        super().__init__(engine.optimizer)
        self.engine = engine
        self.stage = int(engine.zero_optimization_stage())
        self.parameter_groups = groups
        self._is_stepped = True

    def backward(self, loss: Tensor, is_last: bool, *, retain_graph: bool = False) -> None:
        """Add a micro-batch's gradients; after the last one of a step, average those of all processes."""
        self.engine.set_gradient_accumulation_boundary(is_last)
        self.engine.backward(loss, retain_graph=retain_graph, scale_wrt_gas=False)
        self._is_stepped = False

    def clip_grad_norm(self, parameters: Sequence[nn.Parameter], max_norm: float | None, *, reads: bool) -> Tensor:
        """As `gradients.clip_grad_norm`; in stages 1 to 3 it also makes the update."""
        if self.stage == 0:
            return clip_grad_norm(parameters, max_norm, reads=reads)
        self._step(max_norm or 0.0)
        norm = self.engine.get_global_grad_norm()
        return torch.as_tensor(float("nan") if norm is None else norm)  # None if configured to compute no norm

    def step(self, closure: Any = None) -> None:
        if not self._is_stepped:
            self._step(0.0)

    def _step(self, max_norm: float) -> None:
        if self.stage > 0:
            self.optimizer.clip_grad = max_norm  # what its `gradient_clipping` sets once; 0 is off
        self.engine.step()
        self._is_stepped = True

    def take_weights(self) -> None:
        """Update the optimizer's copy of the weights after the model has loaded others."""
        if self.stage > 0:
            self.optimizer.refresh_fp32_params()

    def state_dict(self) -> dict[str, Any]:
        """The state as PyTorch's optimizer saves it: whole tensors by parameter number, on the host. Collective."""
        return self._state_by(lambda _, gather: gather(True))

    def parts(self, turns: Turns) -> dict[str, Any]:
        """The same with a `Shard` for each sharded tensor, held by the process whose turn it is. Collective."""
        return self._state_by(lambda like_it, gather: turns.shard(*like_it, gather))

    def _state_by(self, take: Callable[[tuple[torch.Size, torch.dtype], Callable[[bool], Any]], Any]) -> dict[str, Any]:
        """The state, with each sharded tensor replaced by `take((shape, dtype), gather)`."""
        if self.stage == 0:
            plain: dict[str, Any] = self.optimizer.state_dict()
            return plain
        from deepspeed.utils import safe_get_full_optimizer_state

        numbers = self._numbers()
        states: dict[int, dict[str, Any]] = {}
        for parameters, buffers in self._shards():
            self._link(parameters, buffers)
            own = self.optimizer.state.get(buffers[0], {}) if buffers else {}  # alike in all buffers of a group
            for parameter in parameters if own else ():
                states[numbers[parameter]] = state = {}
                for name, value in own.items():
                    if isinstance(value, Tensor) and value.shape == buffers[0].shape:
                        gather = partial(_full, safe_get_full_optimizer_state, parameter, name)
                        state[name] = take((shape_of(parameter), value.dtype), gather)
                    else:  # such as the number of steps, which PyTorch has for each parameter
                        state[name] = value.clone() if isinstance(value, Tensor) else value
        groups = [
            {**group, "params": [numbers[parameter] for parameter in parameters]}
            for group, parameters in zip(self.optimizer.param_groups, self.parameter_groups, strict=True)
        ]
        return {"state": dict(sorted(states.items())), "param_groups": groups}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of an optimizer of any stage, or of PyTorch's own optimizer.

        Raises:
            ValueError: Its groups or tensors do not fit these parameters.
        """
        if self.stage == 0:
            self.optimizer.load_state_dict(state_dict)
            return
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        saved_groups, numbers = state_dict["param_groups"], self._numbers()
        if [len(group["params"]) for group in saved_groups] != [
            len(parameters) for parameters in self.parameter_groups
        ]:
            raise ValueError("the saved parameter groups differ from the optimizer's in number or size")
        for group, saved_group in zip(self.optimizer.param_groups, saved_groups, strict=True):
            group.update({name: value for name, value in saved_group.items() if name != "params"})
        states = {parameter: state_dict["state"].get(number, {}) for parameter, number in numbers.items()}
        for group, (parameters, buffers) in zip(self.optimizer.param_groups, self._shards(), strict=True):
            kinds = _kinds({parameter: states[parameter] for parameter in parameters})
            on_device = group.get("fused") or group.get("capturable")  # where PyTorch then has the number of steps
            for buffer in buffers:
                self.optimizer.state[buffer] = {n: _like(kind, buffer, on_device) for n, kind in kinds.items()}
            self._link(parameters, buffers)
            for parameter in parameters:
                for name in (name for name, kind in kinds.items() if isinstance(kind, torch.dtype)):
                    full = states[parameter].get(name, torch.zeros(shape_of(parameter), dtype=kinds[name]))
                    if self.stage == 3:  # `safe_set_full_…` fails where the shards are padded
                        safe_set_local_optimizer_state(parameter, shard(full, parameter), name)
                    else:
                        safe_set_full_optimizer_state(parameter, full.to(buffers[0].device), name)

    def _numbers(self) -> dict[nn.Parameter, int]:
        """The number of each parameter: PyTorch counts through all groups of an optimizer."""
        return {
            parameter: number for number, parameter in enumerate(p for group in self.parameter_groups for p in group)
        }

    def _shards(self) -> Iterator[tuple[list[nn.Parameter], list[Tensor]]]:
        """Yield each group's trainable parameters, and the flat buffers with this process's shards of them.

        PyTorch's optimizer has these buffers as its parameters.
        """
        if self.stage == 3:
            from deepspeed.checkpoint.constants import FP32_FLAT_GROUPS, OPTIMIZER_STATE_DICT

            own = self.optimizer.state_dict()
            groups = [
                [own[FP32_FLAT_GROUPS][number] for number in group["params"]]
                for group in own[OPTIMIZER_STATE_DICT]["param_groups"]
            ]
        else:
            groups = [group["params"] for group in self.optimizer.param_groups]
        for parameters, buffers in zip(self.parameter_groups, groups, strict=True):
            yield [parameter for parameter in parameters if parameter.requires_grad], buffers

    def _link(self, parameters: list[nn.Parameter], buffers: list[Tensor]) -> None:
        """Make a group's state available to DeepSpeed's functions, which otherwise see the first group after the first step."""
        if self.stage < 3:
            from deepspeed.utils import lazy_init_hp_params_optimizer_state

            lazy_init_hp_params_optimizer_state(parameters, buffers[0], self.optimizer.state)


def _full(get: Callable[..., Tensor], parameter: nn.Parameter, name: str, keep: bool) -> Tensor | None:
    full = get(parameter, name)
    return full.cpu() if keep else None


def _kinds(states: dict[nn.Parameter, dict[str, Any]]) -> dict[str, Any]:
    """By name, the dtype of a state with one value per weight, or any other state itself."""
    kinds: dict[str, Any] = {}
    for parameter, state in states.items():
        for name, value in state.items():
            shape = value.shape if isinstance(value, Tensor) and name != "step" else None
            if shape is not None and shape not in (shape_of(parameter), torch.Size()):
                shapes = f"{tuple(shape)}, and its parameter {tuple(shape_of(parameter))}"
                raise ValueError(
                    f"ZeRO shards only optimizer state with one value per weight: the saved `{name}` has {shapes}"
                )
            kinds[name] = value.dtype if shape == shape_of(parameter) else value
    return kinds


def _like(kind: Any, buffer: Tensor, on_device: bool) -> Any:
    """The state of a flat buffer: zeros of a dtype, or a copy of a state that all its parameters share."""
    if isinstance(kind, torch.dtype):
        return torch.zeros_like(buffer, dtype=kind)
    return kind.to(buffer.device if on_device else kind.device, copy=True) if isinstance(kind, Tensor) else kind


# The shards of stage 3 are flat, and have the same size on all processes: the last ones are padded.


def is_sharded(tensor: Any) -> bool:
    """Whether stage 3 has sharded a parameter, by the test that DeepSpeed's own functions use."""
    return hasattr(tensor, "ds_id")


def shape_of(parameter: Any) -> torch.Size:
    """The shape of the whole parameter."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def local(parameter: nn.Parameter) -> Tensor:
    """This process's shard of a parameter, to be read only.

    Raises:
        ConfigError: The parameter is frozen, or not sharded over all processes.
    """
    from deepspeed.utils import safe_get_local_fp32_param

    own: Tensor | None = safe_get_local_fp32_param(parameter)
    if own is None:
        raise ConfigError(
            "DeepSpeed's stage 3 gives no access to the shards of frozen parameters, which an EMA needs: "
            "use stage 2, or FSDP2"
        )
    if own.numel() != -(-shape_of(parameter).numel() // dist.get_world_size()):
        raise ConfigError(
            "DeepSpeed's stage 3 is supported only if it shards over all processes: use FSDP2 for other layouts"
        )
    return own.detach()


def gather(own: Tensor, parameter: nn.Parameter) -> Tensor:
    """The whole tensor, on every process, of shards that are sharded like `parameter`. Collective."""
    full = own.new_empty(own.numel() * dist.get_world_size())
    dist.all_gather_into_tensor(full, own)
    shape = shape_of(parameter)
    return full[: shape.numel()].view(shape)


def shard(full: Tensor, parameter: nn.Parameter) -> Tensor:
    """This process's shard of a whole tensor; the inverse of `gather`."""
    own = local(parameter)
    start = own.numel() * dist.get_rank()
    values = full.reshape(-1)[start : start + own.numel()]
    return nn.functional.pad(values, (0, own.numel() - values.numel())).to(own.device)


def gathered(parameter: nn.Parameter, keep: bool) -> Tensor | None:
    """The whole parameter on the host, None unless `keep`. Collective."""
    from deepspeed import zero

    with zero.GatheredParameters([parameter]):
        return parameter.detach().to("cpu", copy=True) if keep else None


@torch.no_grad()
def write(parameter: nn.Parameter, full: Tensor) -> None:
    """Set a parameter to a whole tensor, in the model and in the optimizer. Collective."""
    from deepspeed import zero
    from deepspeed.utils import safe_set_local_fp32_param

    with zero.GatheredParameters([parameter], modifier_rank=0):
        parameter.copy_(full)
    if parameter.requires_grad:
        safe_set_local_fp32_param(parameter, shard(full, parameter))

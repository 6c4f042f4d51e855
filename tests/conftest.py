"""Eight virtual CPU devices for every test, set before jax is imported."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax

jax.config.update("jax_compilation_cache_dir", os.environ.get("KTN_JAX_TEST_CACHE") or None)

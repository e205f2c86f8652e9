"""Photos to embedded faces: runtime, batching and vision put together."""

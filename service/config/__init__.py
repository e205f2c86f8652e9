"""The configuration: read once, from a file and the environment.

A setting `key` of `[section]` can be overridden by the environment variable
`FACETTE_SECTION_KEY`. `config.toml.example` is generated from the descriptions in `sections` and
`storage`.
"""

from service.config.example import render_example
from service.config.loading import (
    CLIENT_VARIABLES,
    CONFIG_PATH_VARIABLE,
    ENVIRONMENT_PREFIX,
    load_config,
)
from service.config.sections import SECTIONS, AuthConfig, Config, MatchConfig, VectorIndexConfig

__all__ = [
    "CLIENT_VARIABLES",
    "CONFIG_PATH_VARIABLE",
    "ENVIRONMENT_PREFIX",
    "SECTIONS",
    "AuthConfig",
    "Config",
    "MatchConfig",
    "VectorIndexConfig",
    "load_config",
    "render_example",
]

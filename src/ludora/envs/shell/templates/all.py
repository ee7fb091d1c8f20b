"""The built-in set: every template, by name."""

from __future__ import annotations

from collections.abc import Mapping

from ludora.envs.shell.templates.accounts import ACCOUNTS
from ludora.envs.shell.templates.base import Template
from ludora.envs.shell.templates.files import FILES
from ludora.envs.shell.templates.rights import RIGHTS
from ludora.envs.shell.templates.texts import TEXTS

TEMPLATES: Mapping[str, Template] = {template.name: template for template in (*FILES, *TEXTS, *ACCOUNTS, *RIGHTS)}

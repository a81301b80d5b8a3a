"""Graphs of our own making, in the shapes that core and common node packs use, and what is true of each."""

from __future__ import annotations

from tests.unit.catalog.graph_cases.core import CORE
from tests.unit.catalog.graph_cases.guiders import GUIDERS
from tests.unit.catalog.graph_cases.loaders import LOADERS
from tests.unit.catalog.graph_cases.packs import PACKS
from tests.unit.catalog.graph_cases.services import SERVICES
from tests.unit.catalog.graph_cases.texts import TEXTS
from tests.unit.catalog.graph_cases.videos import VIDEOS
from tests.unit.catalog.graph_cases.wirings import WIRINGS

CASES = [*CORE, *GUIDERS, *TEXTS, *PACKS, *LOADERS, *VIDEOS, *SERVICES, *WIRINGS]

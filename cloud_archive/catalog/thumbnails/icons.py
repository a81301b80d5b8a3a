"""Pictures for files that have none: audio, 3D, video that can't be decoded, and everything else."""

from __future__ import annotations

_FRAME = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 320" width="320" height="320">'
    '<rect width="320" height="320" fill="#2b2d31"/>'
    '<g fill="none" stroke="#9aa0a8" stroke-width="12" stroke-linecap="round" stroke-linejoin="round">{}</g></svg>'
)
_LINES = {
    "audio": '<path d="M70 140v40M110 110v100M150 80v160M190 120v80M230 95v130M270 145v30"/>',
    "3d": '<path d="M160 70l90 50v90l-90 50-90-50v-90zM160 160v100M160 160l90-40M160 160l-90-40"/>',
    "video": '<rect x="60" y="90" width="200" height="140" rx="12"/><path d="M140 130l55 30-55 30z"/>',
    "image": '<rect x="60" y="80" width="200" height="160" rx="12"/><path d="M70 220l60-60 40 40 30-30 50 50"/>',
    "other": '<path d="M100 60h80l50 50v150h-130zM180 60v50h50"/>',
}
ICON_TYPE = "image/svg+xml"


def icon(kind: str) -> bytes:
    """Return the icon of a kind of file as SVG."""
    return _FRAME.format(_LINES.get(kind, _LINES["other"])).encode()

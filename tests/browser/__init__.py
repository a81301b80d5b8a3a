"""The panel in a real browser. Needs Chromium."""

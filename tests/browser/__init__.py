"""Panel and library in a real browser. Needs Chromium."""

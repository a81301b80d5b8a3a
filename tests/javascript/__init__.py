"""Type check and lint of `web/`, with TypeScript and ESLint from npm: `python -m tests.javascript`."""

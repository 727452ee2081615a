"""The style that all HTML pages share."""

STYLE = """
:root { --ink: #1b2430; --dim: #667085; --line: #e4e7ec; --paper: #fff; --ground: #f6f7f9; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 17px; margin: 36px 0 12px; }
.dim, figcaption, small { color: var(--dim); }
table { border-collapse: collapse; background: var(--paper); border: 1px solid var(--line); width: 100%; }
th { color: var(--dim); font-weight: normal; } td { font-variant-numeric: tabular-nums; }
"""

"""`emo report`: finished runs as one page for readers, as Markdown, and as a LaTeX table."""

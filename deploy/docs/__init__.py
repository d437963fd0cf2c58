"""The pages at /docs, in Chinese and English: Markdown here, built by MkDocs into service/docs/site."""

"""The marks of a synthetic frame: a visible label and an invisible watermark, and how they are found again."""

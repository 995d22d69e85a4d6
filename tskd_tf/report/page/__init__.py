"""`report.html`: one self-contained page, section by section."""

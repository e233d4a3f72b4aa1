"""Every published figure: `python -m inference bench NAME [--data DIR]`. Not shipped."""

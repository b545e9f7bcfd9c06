"""What pytest needs to know of this project: the plugin's own tests run pytest inside pytest.

Everything else (options, markers, fixtures of ``e2e/``) comes from ``labctl.testing.plugin``, which is
registered by its entry point.
"""

pytest_plugins = ["pytester"]

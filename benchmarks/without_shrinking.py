"""A pytest plugin: a failed property is not made smaller, which takes minutes."""

from hypothesis import Phase, settings

settings.register_profile(
    "without_shrinking", phases=[Phase.explicit, Phase.generate], deadline=None
)
settings.load_profile("without_shrinking")

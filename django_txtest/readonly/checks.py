def check_readonly(app_configs, **k):
    return []


def check_managers(app_configs, **k):
    return []

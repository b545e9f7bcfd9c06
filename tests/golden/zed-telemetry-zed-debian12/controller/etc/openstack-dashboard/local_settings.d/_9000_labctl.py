# Made by labctl; guide: horizon install; facts 6.10
OPENSTACK_HOST = "controller"
ALLOWED_HOSTS = ["*"]
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.memcached.MemcachedCache",
        "LOCATION": "controller:11211",
    }
}
# facts 6.10: keystone's root is at :5000, not at /identity as the guides print
OPENSTACK_KEYSTONE_URL = "http://controller:5000/v3"
OPENSTACK_KEYSTONE_MULTIDOMAIN_SUPPORT = True
OPENSTACK_KEYSTONE_DEFAULT_DOMAIN = "Default"
OPENSTACK_KEYSTONE_DEFAULT_ROLE = "member"
OPENSTACK_API_VERSIONS = {"identity": 3, "image": 2, "volume": 3}
TIME_ZONE = "UTC"
WEBROOT = "/horizon/"
LOGIN_URL = WEBROOT + "auth/login/"
LOGOUT_URL = WEBROOT + "auth/logout/"
LOGIN_REDIRECT_URL = WEBROOT
# served by controller

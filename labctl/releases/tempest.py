"""Requirements of a release's Tempest, where there is more than one, and its known failures."""

#: Debian 12's tempest, with the libraries of its time: newer ones lack what it imports (oslo_utils' md5).
ZED = (
    *("tempest==33.0.0", "oslo.utils==6.0.*", "oslo.config==9.0.*", "oslo.log==5.0.*", "oslo.context==5.0.*"),
    *("oslo.serialization==5.0.*", "oslo.concurrency==5.0.*", "testtools==2.5.*", "stestr==4.0.*"),
    *("fixtures==4.0.*", "paramiko==2.12.*", "urllib3==1.26.*", "jsonschema==4.10.*", "cliff==4.0.*"),
    *("stevedore==4.0.*", "setuptools<71"),
)
#: Of Debian's packages, in Zed and in Epoxy.
DEBIAN_KNOWN = {
    "tempest.api.identity.admin.v3.test_credentials.CredentialsTestJSON.test_credentials_create_get": (
        "Debian's keystone has the security fix by which a credential's blob alone can be changed; the test changes"
        " its project too"
    ),
}

-- Prosody 0.12 on loopback, for tests. tests/support/xmpp.py fills in the words between at signs.
-- Not loaded: limits, whose 10 kB/s a connection would slow tests down to minutes.
data_path = "@DIR@/data"
pidfile = "@DIR@/prosody.pid"
certificates = "@DIR@"
network_backend = "epoll"
interfaces = { "127.0.0.1" }
c2s_ports = { @C2S@ }
c2s_direct_tls_ports = { @TLS@ }
c2s_direct_tls_ssl = { certificate = "@DIR@/server.crt", key = "@DIR@/server.key" }
component_interfaces = { "127.0.0.1" }
component_ports = { @COMPONENT@ }
s2s_ports = {}
http_ports = {}
https_ports = {}
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
log = { @LOG_LEVEL@ = "@DIR@/prosody.log" }
storage = "internal"
plugin_paths = { "/usr/lib/prosody/modules" }
-- A nil in this table would silently drop every module behind it.
modules_enabled = {
	"roster", "saslauth", "tls", "disco", "carbons", "private", "blocklist", "smacks", "csi_simple",
	"ping", "posix", "offline", "pep", "time", "version", @MODULES@
}
modules_disabled = { "s2s" }
smacks_hibernation_time = @RESUME@
smacks_max_queue_size = @QUEUE@
-- Asks for acknowledgement after each burst.
smacks_max_unacked_stanzas = 0
archive_expires_after = "1d"
ssl = { certificate = "@DIR@/server.crt", key = "@DIR@/server.key" }

-- Accounts with passwords: PLAIN, SCRAM-SHA-1 and SCRAM-SHA-256.
VirtualHost "chat.test"
	authentication = "internal_plain"

-- Accounts with SCRAM keys only, as in production: PLAIN and SCRAM-SHA-1.
VirtualHost "hashed.test"
	authentication = "internal_hashed"

Component "component.test"
	component_secret = "@SECRET@"

Component "muc.test" "muc"

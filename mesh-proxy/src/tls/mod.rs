//! TLS: server and client configurations, SPIFFE verification, secrets.

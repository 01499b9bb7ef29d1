//! The xDS client.

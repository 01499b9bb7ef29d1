//! A proxy on loopback, real servers behind it and real clients before it.

mod connections;
mod floods;
mod harness;
mod messages;
mod resilience;
mod routing;
mod smuggling;
mod untrusted;
mod upgrades;

//! A proxy on loopback, real servers behind it and real clients before it.

mod client;
mod connections;
mod filters;
mod floods;
mod harness;
mod health;
mod hedge;
mod messages;
mod overflow;
mod resilience;
mod routing;
mod smuggling;
mod untrusted;
mod upgrades;

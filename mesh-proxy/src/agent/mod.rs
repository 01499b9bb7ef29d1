//! The agent: environment to bootstrap, identity.

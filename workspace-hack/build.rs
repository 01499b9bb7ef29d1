//! A build script is what makes cargo look at the build dependencies of this crate.
fn main() {}
